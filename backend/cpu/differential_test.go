package cpu

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/gobackend"
	"github.com/gomlx/compute/shapes"
	"github.com/polargo/polar/backend/cpu/kernel/feature"
)

const (
	shortGraphs = 300    // of the default test; POLAR_FUZZ_GRAPHS=N runs N, from POLAR_FUZZ_SEED on
	longGraphs  = 10_000 // with -long
	otherGraphs = 60     // of the default test at each other level, number of threads and option
	mostStops   = 200    // at most one graph in so many may be one that the go backend cannot run: one in 1,000 was
	shrinkTime  = 20 * time.Second
)

// trial checks graphs on some backends.
type trial struct {
	reference compute.Backend
	main      compute.Backend   // all checks
	others    []compute.Backend // must give the same bits
	extra     float64           // allowed relative error of products of float32
	donations bool
}

func newTrial(t testing.TB, config string, others ...string) *trial {
	t.Helper()
	reference, err := gobackend.New("ops_sequential,creation_order")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(reference.Finalize)
	r := &trial{reference: reference, main: open(t, config)}
	for _, other := range others {
		r.others = append(r.others, open(t, other))
	}
	return r
}

// check compares a graph's results: every operation with the go backend, given the same inputs; on the other backends; compiled for
// a few outputs, where operations are fused and their values not stored; and with donated inputs.
func (r *trial) check(g *testGraph, seed uint64) error {
	all, err := g.execute(r.main, g.all(), nil)
	if err != nil {
		return fmt.Errorf("all outputs: %w", err)
	}
	if err := g.expected(r.reference, all, r.extra); err != nil {
		return fmt.Errorf("against the go backend: %w", err)
	}
	for _, other := range r.others {
		again, err := g.execute(other, g.all(), nil)
		if err != nil {
			return fmt.Errorf("on %s: %w", other.Description(), err)
		}
		for i := range all {
			if problem := same(again[i], all[i]); problem != "" {
				return fmt.Errorf("%%%d on %s: %s", i, other.Description(), problem)
			}
		}
	}
	return r.fewOutputs(g, all, seed)
}

// fewOutputs compiles for g's outputs. Values of sums may depend on what they are compiled with, so they are outputs too, and are
// given as inputs to the graph without them, whose values must then be the same bits. Sums of exact graphs are compared as they are.
func (r *trial) fewOutputs(g *testGraph, all []tensor, seed uint64) error {
	cut := map[*vertex][]tensor{}
	wanted := slices.Clone(g.outputs)
	compared := zeroRule
	for _, v := range g.vertices {
		if v.cut {
			compared = exactRule
			for i := range v.shapes {
				wanted = append(wanted, v.first+i)
			}
		}
	}
	exec, err := g.compile(r.main, wanted)
	if err != nil {
		return fmt.Errorf("few outputs: %w", err)
	}
	defer exec.Finalize()
	few, err := g.runWith(r.main, exec, nil)
	if err != nil {
		return fmt.Errorf("few outputs: %w", err)
	}
	want := all
	if compared == exactRule {
		at := len(g.outputs)
		for _, v := range g.vertices {
			if v.cut {
				cut[v] = few[at : at+len(v.shapes)]
				at += len(v.shapes)
			}
		}
		everything := map[*vertex]bool{}
		for _, v := range g.vertices {
			everything[v] = true
		}
		if want, err = g.only(everything, cut).execute(r.main, g.all(), nil); err != nil {
			return fmt.Errorf("without sums: %w", err)
		}
		if err := g.expected(r.reference, want, r.extra); err != nil {
			return fmt.Errorf("few outputs against the go backend: %w", err)
		}
	}
	for i, value := range wanted {
		if problem := compare(compared, few[i], want[value], nil, 0, 0); problem != "" {
			return fmt.Errorf("%%%d of few outputs %v: %s", value, wanted, problem)
		}
	}
	if !r.donations {
		return nil
	}
	return r.donated(g, exec, few, seed)
}

// donated runs twice with inputs given away.
func (r *trial) donated(g *testGraph, exec compute.Executable, want []tensor, seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 3))
	for range 2 {
		donate := make([]bool, len(g.params()))
		for i := range donate {
			donate[i] = rng.IntN(3) > 0
		}
		got, err := g.runWith(r.main, exec, donate)
		if err != nil {
			return fmt.Errorf("donated %v: %w", donate, err)
		}
		for i := range want {
			if problem := same(got[i], want[i]); problem != "" {
				return fmt.Errorf("output #%d with inputs %v donated: %s", i, donate, problem)
			}
		}
	}
	return nil
}

// guarded turns panics of the generator and of recording into errors.
func (r *trial) guarded(g *testGraph, seed uint64) error {
	_, err := guard(func() (any, error) { return nil, r.check(g, seed) })
	return err
}

// fail reports a graph, as small as it gets.
func (r *trial) fail(t testing.TB, g *testGraph, seed uint64, err error) {
	t.Helper()
	small, problem := r.shrink(g, seed, err)
	t.Errorf("seed %d: %v\n%s\nfirst found as: %v", seed, problem, small, err)
}

// shrink leaves operations and outputs out and turns operations into parameters, for as long as some check fails.
func (r *trial) shrink(g *testGraph, seed uint64, err error) (*testGraph, error) {
	deadline := time.Now().Add(shrinkTime)
	try := func(smaller *testGraph) bool {
		if time.Now().After(deadline) || len(smaller.vertices) == 0 {
			return false
		}
		if problem := r.guarded(smaller, seed); problem != nil {
			g, err = smaller, problem
			return true
		}
		return false
	}
	for again := true; again && time.Now().Before(deadline); {
		again = false
		for i := len(g.vertices) - 1; i >= 0 && i < len(g.vertices); i-- {
			for _, smaller := range []*testGraph{g.downTo(i), g.without(i)} {
				if smaller != nil && len(smaller.vertices) < len(g.vertices) && try(smaller) {
					again = true
					break
				}
			}
		}
		for i := 0; i < len(g.outputs) && len(g.outputs) > 1; i++ {
			fewer := *g
			fewer.outputs = slices.Delete(slices.Clone(g.outputs), i, i+1)
			if try(&fewer) {
				again = true
				i--
			}
		}
		if values, err := g.execute(r.main, g.all(), nil); err == nil {
			for i := len(g.vertices) - 1; i >= 0 && i < len(g.vertices); i-- {
				v := g.vertices[i]
				if v.name == parameterName {
					continue
				}
				smaller := g.cutAt(v, values[v.first:v.first+len(v.shapes)])
				if len(smaller.vertices) < len(g.vertices) || !slices.ContainsFunc(g.vertices, func(o *vertex) bool { return o != v && slices.Contains(o.in, v.first) }) {
					if try(smaller) {
						again = true
						break
					}
				}
			}
		}
	}
	return g, err
}

// downTo is the graph of what vertex i needs.
func (g *testGraph) downTo(i int) *testGraph {
	v := g.vertices[i]
	out := g.only(g.ancestors([]int{v.first}), nil)
	if len(out.outputs) == 0 {
		out.outputs = []int{out.values - 1}
	}
	return out
}

// without is the graph without vertex i and what needs it.
func (g *testGraph) without(i int) *testGraph {
	keep, gone := map[*vertex]bool{}, map[*vertex]bool{g.vertices[i]: true}
	for _, v := range g.vertices {
		for _, in := range v.in {
			if from, _ := g.of(in); gone[from] {
				gone[v] = true
			}
		}
		keep[v] = !gone[v]
	}
	out := g.only(keep, nil)
	if len(out.vertices) == 0 {
		return nil
	}
	if len(out.outputs) == 0 {
		out.outputs = []int{out.values - 1}
	}
	return out
}

// cutAt makes v a parameter and leaves out what only it needed.
func (g *testGraph) cutAt(v *vertex, values []tensor) *testGraph {
	needed := map[*vertex]bool{v: true}
	for _, value := range g.outputs {
		from, _ := g.of(value)
		needed[from] = true
	}
	for i := len(g.vertices) - 1; i >= 0; i-- {
		w := g.vertices[i]
		used := slices.ContainsFunc(g.vertices, func(o *vertex) bool {
			return needed[o] && o != v && slices.ContainsFunc(o.in, func(in int) bool { from, _ := g.of(in); return from == w })
		})
		last := !slices.ContainsFunc(g.vertices, func(o *vertex) bool {
			return slices.ContainsFunc(o.in, func(in int) bool { from, _ := g.of(in); return from == w })
		})
		needed[w] = needed[w] || used || last
	}
	return g.only(needed, map[*vertex][]tensor{v: values})
}

func (r *trial) graphs(t *testing.T, from uint64, count int) {
	t.Helper()
	failures, stops := 0, 0
	for seed := from; seed < from+uint64(count); seed++ {
		g := generate(r.reference, seed, nil)
		err := r.guarded(g, seed)
		if errors.Is(err, errGoStops) {
			stops++
			continue
		}
		if err != nil {
			r.fail(t, g, seed, err)
			if failures++; failures >= 5 {
				t.Fatal("five graphs failed: the others are left out")
			}
		}
	}
	if stops > 1+count/mostStops {
		t.Errorf("the go backend stopped at %d of %d graphs: too few were compared", stops, count)
	}
}

// envNumber is an environment variable's number.
func envNumber(t testing.TB, name string, otherwise int) int {
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestDifferential compares random graphs with the go backend, and with themselves on 1, 2 and 8 threads.
func TestDifferential(t *testing.T) {
	r := newTrial(t, "threads=2", "threads=1", "threads=8")
	r.donations = true
	r.graphs(t, uint64(envNumber(t, "POLAR_FUZZ_SEED", 0)), envNumber(t, "POLAR_FUZZ_GRAPHS", shortGraphs))
}

// TestDifferentialLong does so for many graphs.
func TestDifferentialLong(t *testing.T) {
	if envNumber(t, "POLAR_LONG", 0) == 0 {
		t.Skip("slow: run with POLAR_LONG=1")
	}
	r := newTrial(t, "threads=2", "threads=1", "threads=8")
	r.donations = true
	r.graphs(t, 1_000_000, longGraphs)
}

// TestDifferentialProcs does so with GOMAXPROCS 1, 2 and 8.
func TestDifferentialProcs(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for i, procs := range []int{1, 2, 8} {
		runtime.GOMAXPROCS(procs)
		t.Run(fmt.Sprint(procs), func(t *testing.T) {
			newTrial(t, "threads=2", "threads=8").graphs(t, uint64(2_000_000+1000*i), otherGraphs)
		})
	}
}

// TestDifferentialLevels does so with the instructions of every level.
func TestDifferentialLevels(t *testing.T) {
	for level := feature.Generic; level <= feature.Detected(); level++ {
		t.Run(level.String(), func(t *testing.T) {
			t.Setenv(LevelEnvVar, level.String())
			r := newTrial(t, "threads=2", "threads=3")
			if got := r.main.(*Backend).Level(); got != level {
				t.Fatalf("level %s, want %s", got, level)
			}
			r.graphs(t, uint64(3_000_000+1000*int(level)), otherGraphs)
		})
	}
}

// TestDifferentialBF16 does so with products of bfloat16.
func TestDifferentialBF16(t *testing.T) {
	if !feature.BF16(feature.Detected()) {
		t.Skip("no products of bfloat16 here")
	}
	r := newTrial(t, "bf16,threads=2", "bf16,threads=1")
	r.extra = bf16Products
	r.graphs(t, 4_000_000, otherGraphs)
}

// TestDifferentialBites holds that the comparison finds a wrong element, a lost input and another sign of zero.
func TestDifferentialBites(t *testing.T) {
	r := newTrial(t, "threads=1")
	found, tried := 0, 0
	for seed := uint64(0); seed < 40; seed++ {
		g := generate(r.reference, seed, nil)
		all, err := g.execute(r.main, g.all(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := len(g.vertices) - 1; i >= 0; i-- {
			v := g.vertices[i]
			x := all[v.first]
			if v.name == parameterName || dead(v) || v.shapes[0].DType != dtypes.Int32 && v.shapes[0].DType != dtypes.Float32 {
				continue
			}
			element := reflect.ValueOf(x.flat).Index(x.shape.Size() / 2)
			switch old := element.Interface().(type) {
			case int32:
				element.SetInt(int64(old ^ 1))
			case float32:
				if old != old || old-old != 0 || old < -1e30 || old > 1e30 {
					continue
				}
				element.SetFloat(float64(old)*1.01 + 1e20)
			}
			tried++
			if g.expected(r.reference, all, 0) != nil {
				found++
			}
			break
		}
	}
	if tried < 20 || found != tried {
		t.Errorf("found %d of %d wrong values", found, tried)
	}
	zero := func(x float32) tensor { return tensor{shapes.Make(dtypes.Float32, 1), []float32{x}} }
	if negative := -zero(0).flat.([]float32)[0]; same(zero(0), zero(float32(1/(-1/negative)))) != "" && negative == 0 {
		t.Log("signs of zero differ, as they should")
	}
	if same(zero(1), zero(1.0000001)) == "" || compare(roundRule, zero(1), zero(1.000001), nil, 0, 0) == "" {
		t.Error("different numbers compare as equal")
	}
}

// FuzzGraphs makes graphs of bytes.
func FuzzGraphs(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 1))
	for n := range 30 {
		data := make([]byte, 20*n)
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		f.Add(data)
	}
	r := newTrial(f, "threads=2")
	r.donations = true
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 2000 {
			t.Skip("long enough")
		}
		g := generate(r.reference, 0, data)
		if err := r.guarded(g, 0); err != nil && !errors.Is(err, compute.ErrNotImplemented) {
			r.fail(t, g, 0, err)
		}
	})
}
