package fastbind_test

// tempBase is the user's own.
const tempBase = ""
