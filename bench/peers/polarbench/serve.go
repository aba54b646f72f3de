package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// answer is one line to the driver.
type answer struct {
	outcome
	Flops   float64 `json:"flops,omitempty"`
	PeakKiB int64   `json:"peak_kib,omitempty"`
	Rate    float64 `json:"rate,omitempty"` // the processor's float32 peak in GFLOP/s
	Error   string  `json:"error,omitempty"`
}

// serve takes one order a line and answers each with a line of JSON: "steps N" takes N steps and gives the mean of their times,
// "updates FILE" takes one and writes what it did to the parameters, "peak" tells the peak of memory, "rate" that of the
// processor. It ends with its input.
func serve(w *work, threads int, in io.Reader, out io.Writer) error {
	encoder := json.NewEncoder(out)
	if err := encoder.Encode(answer{Flops: w.flops}); err != nil {
		return err
	}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var a answer
		var err error
		switch order, argument, _ := strings.Cut(lines.Text(), " "); {
		case order == "steps":
			a.outcome, err = w.steps(argument)
		case order == "updates" && w.updates != nil:
			err = w.updates(argument)
		case order == "peak":
			a.PeakKiB, err = peakMemory()
		case order == "rate":
			a.Rate = measuredPeak(threads)
		default:
			err = fmt.Errorf("unknown order %q", lines.Text())
		}
		if math.IsNaN(a.Loss) || math.IsInf(a.Loss, 0) || math.IsNaN(a.Norm) || math.IsInf(a.Norm, 0) {
			err = fmt.Errorf("loss %g, norm of the gradient %g", a.Loss, a.Norm)
			a.outcome = outcome{} // JSON has no such numbers
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

// steps takes so many steps: the outcome of the last with the means of the times.
func (w *work) steps(argument string) (mean outcome, err error) {
	count, err := strconv.Atoi(argument)
	if err != nil || count < 1 {
		return mean, fmt.Errorf("steps %q: want a positive number", argument)
	}
	seconds := 0.0
	parts := map[string]float64{}
	for range count {
		if mean, err = w.step(); err != nil {
			return mean, err
		}
		seconds += mean.Seconds
		for _, p := range mean.Parts {
			parts[p.Name] += p.Seconds
		}
	}
	mean.Seconds = seconds / float64(count)
	for i, p := range mean.Parts {
		mean.Parts[i].Seconds = parts[p.Name] / float64(count)
	}
	return mean, nil
}
