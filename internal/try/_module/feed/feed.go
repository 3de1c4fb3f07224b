// Package feed writes a month for other programs.
package feed

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"

	"example.com/almanac/moon"
)

// Write writes the days as "json" or "xml".
func Write(w io.Writer, format string, days []moon.Day) error {
	switch format {
	case "json":
		return json.NewEncoder(w).Encode(days)
	case "xml":
		return xml.NewEncoder(w).Encode(struct {
			XMLName xml.Name   `xml:"month"`
			Days    []moon.Day `xml:"day"`
		}{Days: days})
	}
	return fmt.Errorf("there is no format %q", format)
}
