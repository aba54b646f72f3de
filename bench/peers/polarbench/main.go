// Command polarbench times one piece of work on one backend: a matrix product, a training step, a step on adapters, or the
// optimizer's step alone. By hand it prints medians; with --serve it takes its orders line by line from bench/peers/drive.py,
// which runs it beside other libraries.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/klog/v2"
)

type settings struct {
	row, backend, cpuprofile, memprofile, data    string
	reps, warmup, threads, layers, steps, verbose int
	peak                                          float64
	serve                                         bool
}

func main() {
	log.SetFlags(0)
	var s settings
	flag.StringVar(&s.row, "row", "step2", "step2, step6, lora, optimizer or product:MxKxN (M x K times K x N)")
	flag.StringVar(&s.backend, "backend", "polar", "the backend, for example polar, polar:bf16 or go; gemm and gemm:bf16: package gemm itself, products only")
	flag.IntVar(&s.reps, "reps", 5, "timed repetitions")
	flag.IntVar(&s.warmup, "warmup", 1, "repetitions before them; the first one compiles")
	flag.IntVar(&s.threads, "threads", 2, "GOMAXPROCS")
	flag.IntVar(&s.layers, "layers", 0, "layers of the model of the rows step2, step6 and lora; 0: as many as it has")
	flag.IntVar(&s.steps, "steps", 0, "list that many of the backend's most expensive steps (backend polar)")
	flag.Float64Var(&s.peak, "peak", 0, "the machine's float32 peak in GFLOP/s; 0: measured where there is a loop for it")
	flag.StringVar(&s.cpuprofile, "cpuprofile", "", "file for a profile of the timed repetitions")
	flag.StringVar(&s.memprofile, "memprofile", "", "file for a profile of Go's heap after the last repetition")
	flag.StringVar(&s.data, "data", "", "write the inputs and weights to this safetensors file, for other libraries, and end")
	flag.IntVar(&s.verbose, "v", 0, "level of logging; at 1 a backend tells what it leaves to another")
	flag.BoolVar(&s.serve, "serve", false, "take orders from standard input")
	flag.Parse()
	if flag.NArg() > 0 {
		log.Fatalf("polarbench: unknown argument %q", flag.Arg(0))
	}
	if err := run(s); err != nil {
		log.Fatalf("polarbench: %s on %s: %v", s.row, s.backend, err)
	}
}

func run(s settings) error {
	var verbosity klog.Level
	if err := verbosity.Set(strconv.Itoa(s.verbose)); err != nil {
		return err
	}
	runtime.GOMAXPROCS(s.threads)
	w, err := open(s)
	if err != nil {
		return err
	}
	defer w.close()
	if s.data != "" {
		return w.write(s.data)
	}
	// The peak is that of the work, not of making its random weights.
	if err := resetPeakMemory(); err != nil {
		return err
	}
	if s.serve {
		return serve(w, s.threads, os.Stdin, os.Stdout)
	}
	return timeAndPrint(w, s)
}

// timeAndPrint times the work and prints a few lines.
func timeAndPrint(w *work, s settings) error {
	var first outcome
	for i := range s.warmup {
		start := time.Now()
		o, err := w.step()
		if err != nil {
			return err
		}
		if i == 0 {
			first = o
			fmt.Printf("first step, with compilation: %.2f s\n", time.Since(start).Seconds())
		}
	}
	if s.cpuprofile != "" {
		f, err := os.Create(s.cpuprofile)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
	}
	if s.steps > 0 && w.profile != nil {
		stop := w.profile()
		defer func() { stop(os.Stdout, s.steps) }()
	}
	times := map[string][]float64{}
	var last outcome
	for range s.reps {
		o, err := w.step()
		if err != nil {
			return err
		}
		for _, p := range o.Parts {
			times[p.Name] = append(times[p.Name], p.Seconds)
		}
		times["all"] = append(times["all"], o.Seconds)
		last = o
	}
	pprof.StopCPUProfile()
	if s.memprofile != "" {
		if err := writeHeap(s.memprofile); err != nil {
			return err
		}
	}
	report(w, s, first, last, times)
	return nil
}

func writeHeap(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	runtime.GC()
	return pprof.WriteHeapProfile(f)
}

func report(w *work, s settings, first, last outcome, times map[string][]float64) {
	all := times["all"]
	slices.Sort(all)
	rate := w.flops / median(all) / 1e9
	peak := s.peak
	if peak == 0 {
		peak = measuredPeak(s.threads)
	}
	share := ""
	if peak > 0 {
		share = fmt.Sprintf(", %.1f %% of the peak of %.0f", 100*rate/peak, peak)
	}
	fmt.Printf("%s on %s, %d threads: median %.3f ms (%.3f to %.3f), %.2f GFLOP, %.1f GFLOP/s%s\n",
		s.row, s.backend, s.threads, 1e3*median(all), 1e3*all[0], 1e3*all[len(all)-1], w.flops/1e9, rate, share)
	var parts []string
	for _, p := range last.Parts {
		parts = append(parts, fmt.Sprintf("%s %.3f ms", p.Name, 1e3*median(times[p.Name])))
	}
	if len(parts) > 0 {
		fmt.Printf("medians of the parts: %s\n", strings.Join(parts, ", "))
	}
	if w.hasLoss {
		fmt.Printf("loss %.6f at the first step, %.6f at the last\n", first.Loss, last.Loss)
	}
	if kib, err := peakMemory(); err == nil {
		fmt.Printf("peak memory %.0f MiB since the weights were made\n", float64(kib)/1024)
	}
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n == 0 {
		return 0
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
