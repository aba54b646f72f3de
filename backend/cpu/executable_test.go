package cpu

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/polargo/polar/backend/cpu/ir"
	"github.com/polargo/polar/backend/cpu/program"
)

// scripted is a runner for tests.
type scripted struct {
	donations []int
	run       func(inputs, outputs [][]byte, donatedInto []int) error
	closed    int
}

func (s *scripted) Donations() []int { return s.donations }
func (s *scripted) Close()           { s.closed++ }
func (s *scripted) Run(inputs, outputs [][]byte, donatedInto []int) error {
	return s.run(inputs, outputs, donatedInto)
}

// compiled builds f(x, y) = (x+y, x-y) on vectors of three, with a runner in place of the native compiler if there is one.
func compiled2(t *testing.T, b *Backend, r runner) *Executable {
	t.Helper()
	if r != nil {
		b.compile = func(*Backend, *ir.Function) (runner, error) { return r, nil }
	}
	builder := b.Builder("two").(*Builder)
	x, y := must(builder.main.Parameter("x", f32(3), nil)), must(builder.main.Parameter("y", f32(3), nil))
	if err := builder.main.Return([]compute.Value{must(builder.main.Add(x, y)), must(builder.main.Sub(x, y))}, nil); err != nil {
		t.Fatal(err)
	}
	return must(builder.Compile()).(*Executable)
}

func vector(b *Backend, values ...float32) *Buffer {
	return must(b.BufferFromFlatData(0, values, f32(len(values)))).(*Buffer)
}

func address(u *Buffer) *byte { return &u.block.data[0] }

// TestDonation: an output takes a donated input's memory where the program says so, and only if nobody else has it.
func TestDonation(t *testing.T) {
	b := open(t, "")
	into := make(chan []int, 1)
	r := &scripted{donations: []int{1, -1}, run: func(inputs, outputs [][]byte, donatedInto []int) error {
		sum, difference := make([]float32, 3), make([]float32, 3)
		x, y := asFloats(inputs[0]), asFloats(inputs[1])
		for i := range sum {
			sum[i], difference[i] = x[i]+y[i], x[i]-y[i]
		}
		copy(asFloats(outputs[0]), sum)
		copy(asFloats(outputs[1]), difference)
		into <- donatedInto
		return nil
	}}
	e := compiled2(t, b, r)
	for _, c := range []struct {
		name   string
		donate []bool
		twice  bool
		want   []int
	}{
		{"none", nil, false, []int{-1, -1}},
		{"the other", []bool{true, false}, false, []int{-1, -1}},
		{"both", []bool{true, true}, false, []int{1, -1}},
		{"one buffer twice", []bool{false, true}, true, []int{-1, -1}},
	} {
		x, y := vector(b, 1, 2, 3), vector(b, 10, 20, 30)
		want := [][]float32{{11, 22, 33}, {-9, -18, -27}}
		if c.twice {
			x = y
			want = [][]float32{{20, 40, 60}, {0, 0, 0}}
		}
		memory := address(y)
		out, err := e.Execute([]compute.Buffer{x, y}, c.donate, 0)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if got := <-into; !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: donated into %v, want %v", c.name, got, c.want)
		}
		for i := range want {
			if got := must(out[i].Data()); !reflect.DeepEqual(got, want[i]) {
				t.Errorf("%s: output %d is %v, want %v", c.name, i, got, want[i])
			}
		}
		if reused := address(out[0].(*Buffer)) == memory; reused != (c.want[0] == 1) {
			t.Errorf("%s: the memory was reused: %t", c.name, reused)
		}
		for i, buffer := range []*Buffer{x, y} {
			donated := len(c.donate) > 0 && c.donate[i] || c.twice
			if _, err := buffer.Data(); (err != nil) != donated {
				t.Errorf("%s: input %d afterwards: %v", c.name, i, err)
			}
			if donated && buffer.Finalize() != nil {
				t.Errorf("%s: a donated buffer cannot be finalised", c.name)
			}
		}
		if y.users != 0 || x.users != 0 {
			t.Errorf("%s: inputs are still in use", c.name)
		}
	}
}

func asFloats(data []byte) []float32 { return typed(data, f32(len(data)/4)).([]float32) }

// TestRunFails: an error from the program comes back, donated inputs are gone, and the outputs' memory is not lost.
func TestRunFails(t *testing.T) {
	b := open(t, "")
	broken := errors.New("broken")
	r := &scripted{donations: []int{0, -1}, run: func([][]byte, [][]byte, []int) error { return broken }}
	e := compiled2(t, b, r)
	x, y := vector(b, 1, 2, 3), vector(b, 4, 5, 6)
	kept := b.pool.kept
	if _, err := e.Execute([]compute.Buffer{x, y}, []bool{true, false}, 0); !errors.Is(err, broken) {
		t.Fatalf("%v", err)
	}
	if got := b.pool.kept - kept; got != 2*program.Align { // x, given to the first output, and the second
		t.Errorf("%d bytes came back to the pool, want %d", got, 2*program.Align)
	}
	if _, err := x.Data(); err == nil {
		t.Error("the donated input is still there")
	}
	if got := must(y.Data()); !reflect.DeepEqual(got, []float32{4, 5, 6}) {
		t.Errorf("the other input is %v", got)
	}
	e.Finalize()
	e.Finalize()
	if r.closed != 1 {
		t.Errorf("closed %d times", r.closed)
	}
	if _, err := e.Execute([]compute.Buffer{y, y}, nil, 0); err == nil || !strings.Contains(err.Error(), "finalised") {
		t.Errorf("after Finalize: %v", err)
	}
}

// both runs a test with the native compiler and with the whole-function path.
func both(t *testing.T, test func(t *testing.T, b *Backend)) {
	t.Run("native", func(t *testing.T) { test(t, open(t, "")) })
	t.Run("whole", func(t *testing.T) {
		b := open(t, "")
		b.compile = refuse
		test(t, b)
	})
}

// TestExecuteRefuses: wrong inputs are errors, and what was right before is not lost by them.
func TestExecuteRefuses(t *testing.T) {
	both(t, func(t *testing.T, b *Backend) {
		e, other := compiled2(t, b, nil), open(t, "")
		x, y := vector(b, 1, 2, 3), vector(b, 10, 20, 30)
		gone := vector(b, 1, 2, 3)
		if err := gone.Finalize(); err != nil {
			t.Fatal(err)
		}
		integers := must(b.BufferFromFlatData(0, []int32{1, 2, 3}, i32(3)))
		foreign := must(b.checker.BufferFromFlatData(0, []float32{1, 2, 3}, f32(3)))
		for name, c := range map[string]struct {
			inputs []compute.Buffer
			donate []bool
		}{
			"too few":          {inputs: []compute.Buffer{x}},
			"too many":         {inputs: []compute.Buffer{x, y, x}},
			"shape":            {inputs: []compute.Buffer{x, vector(b, 1, 2)}},
			"dtype":            {inputs: []compute.Buffer{x, integers}},
			"nil":              {inputs: []compute.Buffer{x, nil}},
			"go's":             {inputs: []compute.Buffer{x, foreign}},
			"another instance": {inputs: []compute.Buffer{x, vector(other, 1, 2, 3)}},
			"finalised":        {inputs: []compute.Buffer{x, gone}},
			"donate":           {inputs: []compute.Buffer{x, y}, donate: []bool{true}},
		} {
			if _, err := e.Execute(c.inputs, c.donate, 0); err == nil {
				t.Errorf("%s was accepted", name)
			}
		}
		out, err := e.Execute([]compute.Buffer{x, y}, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := must(out[0].Data()); !reflect.DeepEqual(got, []float32{11, 22, 33}) {
			t.Errorf("computed %v", got)
		}
		names, inputs := e.Inputs()
		if !reflect.DeepEqual(names, []string{"x", "y"}) || len(inputs) != 2 || !inputs[1].Equal(f32(3)) || !e.Outputs()[1].Equal(f32(3)) {
			t.Errorf("inputs %v %v, outputs %v", names, inputs, e.Outputs())
		}
	})
}

// TestDynamicAxes run as a whole on the go backend, for any length, whether or not the native compiler is there.
func TestDynamicAxes(t *testing.T) {
	b := open(t, "")
	builder := b.Builder("dynamic").(*Builder)
	shape := shapes.MakeDynamic(dtypes.Float32, []int{shapes.DynamicDim, 2}, []string{"rows", ""})
	x := must(builder.main.Parameter("x", shape, nil))
	if err := builder.main.Return([]compute.Value{must(builder.main.ReduceSum(x, 1))}, nil); err != nil {
		t.Fatal(err)
	}
	e := must(builder.Compile())
	for _, rows := range []int{1, 3, 2} {
		flat := make([]float32, 2*rows)
		for i := range flat {
			flat[i] = float32(i)
		}
		out, err := e.Execute([]compute.Buffer{must(b.BufferFromFlatData(0, flat, f32(rows, 2)))}, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := must(out[0].Data()).([]float32); len(got) != rows || got[rows-1] != float32(4*rows-3) {
			t.Errorf("%d rows: %v", rows, got)
		}
	}
	if _, err := e.Execute([]compute.Buffer{must(b.BufferFromFlatData(0, []float32{1, 2, 3}, f32(1, 3)))}, nil, 0); err == nil {
		t.Error("a fixed axis of another length was accepted")
	}
}

// TestCatalogueExecutes: every operation, executed from end to end, gives the bits of the go backend, or is within the tolerance.
func TestCatalogueExecutes(t *testing.T) {
	both(t, func(t *testing.T, b *Backend) {
		for _, s := range catalogue() {
			if s.native {
				continue
			}
			builder := b.Builder("execute").(*Builder)
			out, _ := s.recorded(t, builder)
			if err := builder.main.Return(out, nil); err != nil {
				t.Fatalf("%s: %v", s.op, err)
			}
			e, err := builder.Compile()
			if err != nil {
				t.Errorf("%s: %v", s.op, err)
				continue
			}
			flat := make([]any, len(s.inputs))
			buffers := make([]compute.Buffer, len(s.inputs))
			for i, shape := range s.inputs {
				flat[i] = fill(shape, uint64(i))
				buffers[i] = must(b.BufferFromFlatData(0, flat[i], shape))
			}
			results, err := e.Execute(buffers, nil, 0)
			if err != nil {
				t.Errorf("%s: %v", s.op, err)
				continue
			}
			for i, want := range runDirectly(t, b, s, flat) {
				got := must(results[i].Data())
				shape := must(results[i].Shape())
				if shape.DType == dtypes.Float32 {
					if err := near(got.([]float32), typed(want, shape).([]float32)); err != nil {
						t.Errorf("%s: output %d: %v", s.op, i, err)
					}
				} else if !bytes.Equal(dtypes.UnsafeByteSliceFromAny(got), want) {
					t.Errorf("%s: output %d is %v, want % x", s.op, i, got, want)
				}
			}
		}
	})
}

// floatTolerance: the worst difference is that of functions and sums in another order, some units in the last place of 2^-24.
const floatTolerance = 4e-6

func near(got, want []float32) error {
	for i := range want {
		x, y := float64(got[i]), float64(want[i])
		if !(math.Abs(x-y) <= floatTolerance*max(1, math.Abs(y))) && (!math.IsNaN(x) || !math.IsNaN(y)) {
			return fmt.Errorf("value %d is %g, want %g", i, got[i], want[i])
		}
	}
	return nil
}

// TestManyGoroutines: the same and different computations from many goroutines give what they give alone, and end. Buffers are
// shared, donated and finalised meanwhile.
func TestManyGoroutines(t *testing.T) {
	both(t, func(t *testing.T, b *Backend) {
		const goroutines, rounds = 16, 20
		sum := compiled2(t, b, nil)
		product := products(t, b)
		shared := must(b.BufferFromFlatData(0, fill(f32(64, 64), 1), f32(64, 64)))
		first := must(product.Execute([]compute.Buffer{shared}, nil, 0))
		want := must(first[0].Data()).([]float32)
		var group sync.WaitGroup
		for g := range goroutines {
			group.Go(func() {
				for round := range rounds {
					own := must(b.BufferFromFlatData(0, must(shared.Data()), f32(64, 64)))
					input, donate := compute.Buffer(shared), []bool(nil)
					if (g+round)%3 == 0 {
						input, donate = own, []bool{true}
					}
					out, err := product.Execute([]compute.Buffer{input}, donate, 0)
					if err != nil {
						t.Error(err)
						return
					}
					if got := must(out[0].Data()).([]float32); !reflect.DeepEqual(got, want) {
						t.Errorf("goroutine %d, round %d: other values than alone", g, round)
					}
					x, y := vector(b, float32(g), 2, 3), vector(b, 10, 20, 30)
					small, err := sum.Execute([]compute.Buffer{x, y}, []bool{true, false}, 0)
					if err != nil {
						t.Error(err)
						return
					}
					if got := must(small[0].Data()).([]float32)[0]; got != float32(g)+10 {
						t.Errorf("goroutine %d: %g", g, got)
					}
					for _, buffer := range []compute.Buffer{out[0], small[0], small[1], y} {
						if err := buffer.Finalize(); err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
		group.Wait()
	})
}

// products is a computation with products, element-wise operations, a reduction and an operation that stays with the go backend.
func products(t *testing.T, b *Backend) compute.Executable {
	t.Helper()
	main := b.Builder("products").(*Builder).main
	x := must(main.Parameter("x", f32(64, 64), nil))
	y := x
	for range 3 {
		y = must(main.DotGeneral(y, []int{1}, nil, x, []int{0}, nil, compute.DotGeneralConfig{}))
		total := must(main.ReduceMax(y, 1))
		y = must(main.Div(y, must(main.BroadcastInDim(total, f32(64, 64), []int{0}))))
		y = must(main.Tanh(must(main.Reverse(y, 0))))
	}
	if err := main.Return([]compute.Value{y}, nil); err != nil {
		t.Fatal(err)
	}
	return must(main.builder.Compile())
}

// TestFinalizeWaits: Finalize of an executable or of the backend, from another goroutine, waits for what runs.
func TestFinalizeWaits(t *testing.T) {
	both(t, func(t *testing.T, b *Backend) {
		e := products(t, b)
		shared := must(b.BufferFromFlatData(0, fill(f32(64, 64), 1), f32(64, 64)))
		var group sync.WaitGroup
		for g := range 8 {
			group.Go(func() {
				for round := range 20 {
					out, err := e.Execute([]compute.Buffer{shared}, nil, 0)
					if err != nil {
						if !strings.Contains(err.Error(), "finalised") {
							t.Error(err)
						}
						return
					}
					_ = must(out[0].Shape())
					if g == 0 && round == 5 {
						e.Finalize()
					}
					if g == 1 && round == 5 {
						b.Finalize()
					}
				}
			})
		}
		group.Wait()
	})
}
