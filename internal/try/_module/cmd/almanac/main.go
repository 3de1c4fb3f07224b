// Command almanac prints the moon of a month.
package main

import (
	"bytes"
	"flag"
	"log"
	"os"
	"time"

	"example.com/almanac/chart"
	"example.com/almanac/moon"
	"example.com/almanac/pack"
)

func main() {
	year := flag.Int("year", 2000, "year")
	month := flag.Int("month", 1, "month, 1 to 12")
	archive := flag.Bool("archive", false, "write a .tar.gz")
	flag.Parse()
	var page bytes.Buffer
	if err := chart.Write(&page, moon.Month(*year, time.Month(*month))); err != nil {
		log.Fatal(err)
	}
	var err error
	if *archive {
		err = pack.Write(os.Stdout, "month.txt", page.Bytes(), time.Date(*year, time.Month(*month), 1, 0, 0, 0, 0, time.UTC))
	} else {
		_, err = os.Stdout.Write(page.Bytes())
	}
	if err != nil {
		log.Fatal(err)
	}
}
