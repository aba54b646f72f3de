package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"time"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/backend"
	"github.com/polargo/polar/backend/cpu"
	"github.com/polargo/polar/internal/graphx"
	"github.com/polargo/polar/internal/safetensors"
)

// work is something to time.
type work struct {
	flops   float64 // operations of a step, as computed by the formulas beside each row
	hasLoss bool
	step    func() (outcome, error)
	// updates writes what a step does to the parameters to a file; nil where that is not compared.
	updates func(path string) error
	inputs  []safetensors.Source // the inputs and weights, for other libraries
	closers []func()
	profile func() (stop func(w io.Writer, lines int)) // of the backend's steps; nil where it has none
}

// outcome is one step.
type outcome struct {
	Seconds float64 `json:"seconds"`
	Loss    float64 `json:"loss"` // before the step
	Norm    float64 `json:"norm"` // of the gradient; of the first step only, in rows that have one
	Parts   []part  `json:"parts"`
}

type part struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}

// open prepares a row. Nothing is compiled before the first step.
func open(s settings) (*work, error) {
	if s.backend == "gemm" || s.backend == "gemm:bf16" {
		w := &work{}
		return w, openDirect(w, s)
	}
	opened, err := backend.Open(s.backend)
	if err != nil {
		return nil, err
	}
	w := &work{}
	w.closers = append(w.closers, opened.Finalize)
	if own, ok := opened.(*cpu.Backend); ok {
		w.profile = own.Profile
	}
	var prepare func(*work, compute.Backend, settings) error
	kind, _, _ := strings.Cut(s.row, ":")
	switch kind {
	case "product":
		prepare = openProduct
	case "step2", "step6":
		prepare = openDecoder
	case "lora":
		prepare = openLoRA
	case "optimizer":
		prepare = openOptimizer
	default:
		return nil, fmt.Errorf("unknown row; known are step2, step6, lora, optimizer, product:MxKxN")
	}
	if err := graphx.Try(func() error { return prepare(w, opened, s) }); err != nil {
		return nil, err
	}
	debug.FreeOSMemory()
	return w, nil
}

func (w *work) close() {
	for i := len(w.closers) - 1; i >= 0; i-- {
		w.closers[i]()
	}
}

// write writes the inputs and weights of the row.
func (w *work) write(path string) error {
	return safetensors.WriteSources(path, w.inputs, nil)
}

// give adds a tensor to the inputs that other libraries get.
func (w *work) give(name string, shape []int, load func() ([]float32, error)) {
	w.inputs = append(w.inputs, safetensors.Source{Name: name, DType: "F32", Shape: shape, Load: func() ([]byte, error) {
		values, err := load()
		if err != nil {
			return nil, err
		}
		return safetensors.FromFloat32(name, shape, values).Data, nil
	}})
}

// giveVariable is give for a variable's value at the time of writing.
func (w *work) giveVariable(name string, v *mlmodel.Variable) {
	w.give(name, v.Shape().Dimensions, func() ([]float32, error) { return values(v) })
}

func values(v *mlmodel.Variable) ([]float32, error) {
	t, err := v.Value()
	if err != nil {
		return nil, err
	}
	return tensors.CopyFlatData[float32](t)
}

// gaussian returns normal numbers of the given mean and standard deviation that depend on the seed.
func gaussian(seed uint64, mean, deviation float64, n int) []float32 {
	rng := rand.New(rand.NewPCG(seed, 0))
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(mean + deviation*rng.NormFloat64())
	}
	return out
}

// clock measures parts of a step, one after another.
type clock struct {
	outcome outcome
	start   time.Time
	last    time.Time
}

func newClock() *clock {
	now := time.Now()
	return &clock{start: now, last: now}
}

// part ends a part.
func (c *clock) part(name string) {
	now := time.Now()
	c.outcome.Parts = append(c.outcome.Parts, part{name, now.Sub(c.last).Seconds()})
	c.last = now
}

// stop ends the step.
func (c *clock) stop() outcome {
	c.outcome.Seconds = time.Since(c.start).Seconds()
	return c.outcome
}

// call runs an executable and turns panics of graph building into errors.
func call(exec *mlmodel.Exec, args ...any) ([]*tensors.Tensor, error) {
	return graphx.Try1(func() ([]*tensors.Tensor, error) { return exec.Exec(args...) })
}

func finalize(all []*tensors.Tensor) error {
	for _, t := range all {
		if err := t.FinalizeAll(); err != nil {
			return err
		}
	}
	return nil
}
