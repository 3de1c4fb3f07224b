// Command feed prints the moon of a month for other programs.
package main

import (
	"flag"
	"log/slog"
	"os"
	"time"

	"example.com/almanac/feed"
	"example.com/almanac/moon"
)

func main() {
	year := flag.Int("year", 2000, "year")
	month := flag.Int("month", 1, "month, 1 to 12")
	format := flag.String("format", "json", "json or xml")
	flag.Parse()
	if err := feed.Write(os.Stdout, *format, moon.Month(*year, time.Month(*month))); err != nil {
		slog.Error("cannot write", "error", err)
		os.Exit(1)
	}
}
