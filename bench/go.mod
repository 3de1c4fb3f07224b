module github.com/fastbind/fastbind/bench

go 1.26.0

require github.com/fastbind/fastbind v0.0.0

require golang.org/x/sys v0.49.0

replace github.com/fastbind/fastbind => ../
