package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// answer is one line to the driver.
type answer struct {
	outcome
	Flops   float64 `json:"flops,omitempty"`
	PeakKiB int64   `json:"peak_kib,omitempty"`
	Error   string  `json:"error,omitempty"`
}

// serve takes one order a line and answers each with a line of JSON: "step" takes one step and times it, "updates FILE"
// takes one and writes what it did to the parameters, "peak" tells the peak of memory. It ends with its input.
func serve(w *work, in io.Reader, out io.Writer) error {
	encoder := json.NewEncoder(out)
	if err := encoder.Encode(answer{Flops: w.flops}); err != nil {
		return err
	}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var a answer
		var err error
		switch order, argument, _ := strings.Cut(lines.Text(), " "); {
		case order == "step":
			a.outcome, err = w.step()
		case order == "updates" && w.updates != nil:
			err = w.updates(argument)
		case order == "peak":
			a.PeakKiB, err = peakMemory()
		default:
			err = fmt.Errorf("unknown order %q", lines.Text())
		}
		if err != nil {
			a.Error = err.Error()
		}
		if err := encoder.Encode(a); err != nil {
			return err
		}
	}
	return nil
}
