package main

import (
	"encoding/json"
	"fmt"
	"io"
)

// format is how a command writes its result.
type format string

const (
	formatText format = "text"
	formatJSON format = "json"
)

// Set, String and Type make format a flag.
func (f *format) Set(s string) error {
	switch v := format(s); v {
	case formatText, formatJSON:
		*f = v
		return nil
	}
	return fmt.Errorf("%q is neither text nor json", s)
}

func (f *format) String() string { return string(*f) }

// Type is the name of the value in the help.
func (f *format) Type() string { return "FORMAT" }

// write shows v as JSON, or calls text.
func (c *cli) write(v any, text func(io.Writer) error) error {
	if c.format != formatJSON {
		return text(c.out)
	}
	enc := json.NewEncoder(c.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
