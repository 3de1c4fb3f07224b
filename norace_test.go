//go:build !race

package fastbind_test

const raceEnabled = false
