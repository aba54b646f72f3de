package cpu

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/polargo/polar/backend/cpu/compile"
	"github.com/polargo/polar/backend/cpu/ir"
	"github.com/polargo/polar/backend/cpu/program"
)

// extras are all operations that can be recorded although the go backend lacks them.
func extras() map[compute.OpType]bool {
	ops := map[compute.OpType]bool{}
	for _, s := range catalogue() {
		if s.native {
			ops[s.op] = true
		}
	}
	return ops
}

// recorded builds a sample and returns its values and node.
func (s sample) recorded(t *testing.T, b *Builder) ([]compute.Value, *ir.Node) {
	t.Helper()
	in := make([]compute.Value, len(s.inputs))
	for i, shape := range s.inputs {
		var err error
		if in[i], err = b.main.Parameter(fmt.Sprintf("x%d", i), shape, nil); err != nil {
			t.Fatal(err)
		}
	}
	out, err := s.build(b.main, in)
	if err != nil {
		t.Fatalf("%s: %v", s.op, err)
	}
	node := out[0].(*value).node
	if node.Op == ir.OpSelect {
		node = node.Inputs[0]
	}
	return out, node
}

// TestRecording: every operation is recorded with its inputs, its attributes and the shapes of its outputs.
func TestRecording(t *testing.T) {
	b := open(t, "")
	b.extra = extras()
	for _, s := range catalogue() {
		builder := b.Builder("record").(*Builder)
		out, node := s.recorded(t, builder)
		if node.Op != s.op {
			t.Errorf("%s: recorded as %s", s.op, opName(node.Op))
		}
		switch check := s.attrs.(type) {
		case func(*ir.Node) error:
			if err := check(node); err != nil {
				t.Errorf("%s: %v", s.op, err)
			}
		default:
			if !reflect.DeepEqual(node.Attrs, s.attrs) {
				t.Errorf("%s: attributes %#v, want %#v", s.op, node.Attrs, s.attrs)
			}
		}
		want := s.nodes
		if want == 0 {
			want = len(s.inputs)
		}
		if len(node.Inputs) != want || node.Replay == nil || len(node.Shapes) != len(out) {
			t.Errorf("%s: %d inputs and %d outputs, want %d and %d", s.op, len(node.Inputs), len(node.Shapes), want, len(out))
		}
		for i, v := range out {
			shape, err := builder.OpShape(v)
			selected := v.(*value).node
			if err != nil || !shape.Equal(node.Shapes[i]) {
				t.Errorf("%s: output %d has shape %s, the node %s (%v)", s.op, i, shape, node.Shapes[i], err)
			}
			if len(out) > 1 && (selected.Op != ir.OpSelect || selected.Attrs != ir.SelectAttrs{Output: i}) {
				t.Errorf("%s: output %d is %s with %v", s.op, i, opName(selected.Op), selected.Attrs)
			}
		}
		if s.native != (builder.unshadowed == s.op.String()) {
			t.Errorf("%s: the shadow lacks %q", s.op, builder.unshadowed)
		}
		for i, n := range builder.main.ir.Nodes {
			if n.ID != i {
				t.Errorf("%s: node %d has ID %d", s.op, i, n.ID)
			}
		}
	}
}

// TestCatalogueIsComplete: what the backend says it has is in the catalogue, so that every operation is tested.
func TestCatalogueIsComplete(t *testing.T) {
	have := map[compute.OpType]bool{compute.OpTypeParameter: true, compute.OpTypeDot: true} // Dot has no method
	for _, s := range catalogue() {
		have[s.op] = true
	}
	b := open(t, "")
	count := 0
	for op, supported := range b.Capabilities().Operations {
		if supported && !have[op] {
			t.Errorf("%s is not in the catalogue", op)
		}
		count++
	}
	if count < 100 {
		t.Errorf("only %d operations", count)
	}
}

// TestForeign: one operation replayed in the go backend gives the same bits as the same operation built there.
func TestForeign(t *testing.T) {
	b := open(t, "")
	for _, s := range catalogue() {
		if s.native {
			continue
		}
		t.Run(s.op.String(), func(t *testing.T) {
			builder := b.Builder("foreign").(*Builder)
			_, node := s.recorded(t, builder)
			run, err := b.foreign(node)
			if err != nil {
				t.Fatal(err)
			}
			flat := make([]any, len(s.inputs))
			for i, shape := range s.inputs {
				flat[i] = fill(shape, uint64(i))
			}
			outputs := make([][]byte, len(node.Shapes))
			for i, shape := range node.Shapes {
				n, err := byteSize(shape)
				if err != nil {
					t.Fatal(err)
				}
				outputs[i] = program.Memory(n)
			}
			inputs := make([][]byte, len(node.Inputs))
			for i, input := range node.Inputs {
				inputs[i] = dtypes.UnsafeByteSliceFromAny(flat[input.Attrs.(ir.ParameterAttrs).Index])
			}
			if err := run(inputs, outputs); err != nil {
				t.Fatal(err)
			}
			for i, want := range runDirectly(t, b, s, flat) {
				if !bytes.Equal(outputs[i], want) {
					t.Errorf("output %d is % x, want % x", i, outputs[i], want)
				}
			}
		})
	}
}

// runDirectly builds and runs a sample in the go backend.
func runDirectly(t *testing.T, b *Backend, s sample, flat []any) (outputs [][]byte) {
	t.Helper()
	builder := b.checker.Builder("direct")
	in := make([]compute.Value, len(s.inputs))
	buffers := make([]compute.Buffer, len(s.inputs))
	for i, shape := range s.inputs {
		var err error
		if in[i], err = builder.Main().Parameter(fmt.Sprintf("x%d", i), shape, nil); err != nil {
			t.Fatal(err)
		}
		if buffers[i], err = b.checker.BufferFromFlatData(0, flat[i], shape); err != nil {
			t.Fatal(err)
		}
	}
	out, err := s.build(builder.Main(), in)
	if err != nil {
		t.Fatal(err)
	}
	if err := builder.Main().Return(out, nil); err != nil {
		t.Fatal(err)
	}
	executable, err := builder.Compile()
	if err != nil {
		t.Fatal(err)
	}
	donate := slices.Repeat([]bool{true}, len(buffers)) // else a third of RNGBitGenerator's new state is left as memory was
	results, err := executable.Execute(buffers, donate, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, result := range results {
		data, err := result.Data()
		if err != nil {
			t.Fatal(err)
		}
		outputs = append(outputs, dtypes.UnsafeByteSliceFromAny(data))
	}
	return outputs
}

// TestForeignRefuses: what is no operation, and wrong counts of inputs, are errors.
func TestForeignRefuses(t *testing.T) {
	b := open(t, "")
	builder := b.Builder("refuse").(*Builder)
	x, err := builder.main.Parameter("x", f32(3), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.foreign(x.(*value).node); err == nil {
		t.Error("a parameter was compiled on its own")
	}
	y, err := builder.main.Exp(x)
	if err != nil {
		t.Fatal(err)
	}
	run, err := b.foreign(y.(*value).node)
	if err != nil {
		t.Fatal(err)
	}
	if err := run(nil, [][]byte{make([]byte, 12)}); err == nil {
		t.Error("a run without inputs was accepted")
	}
}

// refuse is a native compiler that can do nothing.
func refuse(*Backend, *ir.Function) (runner, error) { return nil, compile.ErrUnsupported }

// TestUnshadowed: with an operation that the go backend lacks, the whole-function path is refused by name.
func TestUnshadowed(t *testing.T) {
	b := open(t, "")
	b.extra = extras()
	b.compile = refuse
	for _, s := range catalogue() {
		if !s.native {
			continue
		}
		builder := b.Builder("unshadowed").(*Builder)
		out, _ := s.recorded(t, builder)
		if err := builder.main.Return(out, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := builder.Compile(); err == nil || !strings.Contains(err.Error(), s.op.String()) {
			t.Errorf("%s: %v", s.op, err)
		}
	}
	// Without the native compiler's support it is refused at once, as not implemented.
	b.extra = nil
	builder := b.Builder("refused").(*Builder)
	x, err := builder.main.Parameter("x", f32(3), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := builder.main.EqualTotalOrder(x, x); !compute.IsNotImplemented(err) {
		t.Errorf("EqualTotalOrder: %v", err)
	}
}

// TestNestedCaptures: a value of main that is used two closures deep is captured by both, once.
func TestNestedCaptures(t *testing.T) {
	b := open(t, "")
	builder := b.Builder("nested").(*Builder)
	main := builder.main
	param := func(name string, shape shapes.Shape) compute.Value {
		v, err := main.Parameter(name, shape, nil)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	yes, x, y := param("yes", flags()), param("x", f32(3)), param("y", f32(3))
	var inner *Function
	branch := func(use func(c compute.Function) (compute.Value, error)) func(compute.Function) (compute.Function, error) {
		return func(f compute.Function) (compute.Function, error) {
			return inClosure(f, nil, func(c compute.Function, _ []compute.Value) ([]compute.Value, error) { return single(use(c)) })
		}
	}
	deep := branch(func(c compute.Function) (compute.Value, error) {
		inner = c.(*Function)
		sum, err := c.Add(x, y)
		if err != nil {
			return nil, err
		}
		return c.Mul(sum, x) // x again: no second capture
	})
	plain := branch(func(c compute.Function) (compute.Value, error) { return c.Neg(y) })
	outer := branch(func(c compute.Function) (compute.Value, error) {
		a, err := deep(c)
		if err != nil {
			return nil, err
		}
		b, err := plain(c)
		if err != nil {
			return nil, err
		}
		out, err := c.If(yes, a, b)
		if err != nil {
			return nil, err
		}
		return out[0], nil
	})
	first, err := outer(main)
	if err != nil {
		t.Fatal(err)
	}
	second, err := plain(main)
	if err != nil {
		t.Fatal(err)
	}
	out, err := main.If(yes, first, second)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(inner.ir.Captures); got != 2 {
		t.Errorf("the inner closure captures %d values, want 2", got)
	}
	for _, capture := range inner.ir.Captures {
		around := capture.Attrs.(ir.CaptureAttrs).Outer
		if around.Op != ir.OpCapture || around.Attrs.(ir.CaptureAttrs).Outer.Op != compute.OpTypeParameter {
			t.Errorf("captured %s, want the capture of a parameter", opName(around.Op))
		}
	}
	if inner.ir.Parent != inner.parent.ir || inner.parent.ir.Parent != main.ir {
		t.Error("the parents of the closures are wrong")
	}
	run, err := b.foreign(out[0].(*value).node)
	if err != nil {
		t.Fatal(err)
	}
	node := out[0].(*value).node
	memory := map[*ir.Node]any{yes.(*value).node: []bool{true}, x.(*value).node: []float32{1, 2, 3}, y.(*value).node: []float32{10, 20, 30}}
	inputs := make([][]byte, len(node.Inputs))
	for i, input := range node.Inputs {
		inputs[i] = dtypes.UnsafeByteSliceFromAny(memory[input])
	}
	got := make([]float32, 3)
	if err := run(inputs, [][]byte{dtypes.UnsafeByteSlice(got)}); err != nil {
		t.Fatal(err)
	}
	if want := []float32{11, 44, 99}; !reflect.DeepEqual(got, want) {
		t.Errorf("computed %v, want %v", got, want)
	}
}

// TestBuilderRefuses: what cannot be built is an error, never a panic, and leaves the builder usable.
func TestBuilderRefuses(t *testing.T) {
	b := open(t, "")
	builder, other := b.Builder("refuses").(*Builder), b.Builder("other").(*Builder)
	main := builder.Main()
	x, err := main.Parameter("x", f32(3, 4), nil)
	if err != nil {
		t.Fatal(err)
	}
	strange, err := other.Main().Parameter("x", f32(3, 4), nil)
	if err != nil {
		t.Fatal(err)
	}
	closure, err := main.Closure()
	if err != nil {
		t.Fatal(err)
	}
	inside, err := closure.Parameter("inside", f32(3, 4), nil)
	if err != nil {
		t.Fatal(err)
	}
	one := func(_ compute.Value, err error) error { return err }
	many := func(_ []compute.Value, err error) error { return err }
	for name, err := range map[string]error{
		"shapes":              one(main.Add(x, must(main.Constant([]float32{1, 2}, 2)))),
		"dtypes":              one(main.Add(x, must(main.Constant([]int32{1})))),
		"axis":                one(main.ReduceSum(x, 2)),
		"negative dimension":  one(main.Reshape(x, -3, -4)),
		"nil":                 one(main.Exp(nil)),
		"no value":            one(main.Exp(3)),
		"another builder":     one(main.Exp(strange)),
		"a closure's value":   one(main.Exp(inside)),
		"unfinished closure":  many(main.If(x, closure, closure)),
		"constant of structs": one(main.Constant([]struct{}{{}}, 1)),
		"constant of nothing": one(main.Constant(nil)),
		"constant too short":  one(main.Constant([]float32{1}, 2)),
		"huge constant":       one(main.Constant([]float32{1}, 1<<40, 1<<40)),
		"no axis":             one(main.Concatenate(5, x, x)),
		"a bad permutation":   one(main.Transpose(x, 0, 0)),
		"no operands":         many(main.OptimizationBarrier()),
		"sharding":            one(main.Parameter("y", f32(1), &compute.ShardingSpec{})),
		"complex":             one(main.Parameter("z", shapes.Make(dtypes.Complex64, 2), nil)),
		"foreign function":    many(main.Call(b.checker.Builder("x").Main(), x)),
		"nothing returned":    main.Return(nil, nil),
	} {
		if err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if _, err := builder.Compile(); err == nil {
		t.Error("compiled without Return")
	}
	y := must(main.Exp(x))
	if err := main.Return([]compute.Value{y}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := builder.Compile(); err != nil {
		t.Fatal(err)
	}
	if one(main.Exp(x)) == nil || one(main.Constant([]int32{1})) == nil || one(main.Parameter("y", f32(1), nil)) == nil {
		t.Error("a compiled builder was changed")
	}
	if _, err := builder.Compile(); err == nil {
		t.Error("compiled twice")
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestNothingIsShared: changing the slices given to a builder afterwards changes nothing.
func TestNothingIsShared(t *testing.T) {
	b := open(t, "")
	main := b.Builder("shared").(*Builder).main
	flat, axes, permutation := []float32{1, 2, 3, 4}, []int{1}, []int{1, 0}
	c := must(main.Constant(flat, 2, 2))
	sum := must(main.ReduceSum(c, axes...))
	turned := must(main.Transpose(c, permutation...))
	flat[0], axes[0], permutation[0] = 9, 0, 0
	for v, want := range map[compute.Value]any{
		c: ir.ConstantAttrs{Flat: []float32{1, 2, 3, 4}}, sum: ir.AxesAttrs{Axes: []int{1}}, turned: ir.TransposeAttrs{Permutation: []int{1, 0}},
	} {
		if got := v.(*value).node.Attrs; !reflect.DeepEqual(got, want) {
			t.Errorf("recorded %v, want %v", got, want)
		}
	}
}

// TestConversionToTheSame returns the value itself, also inside a closure.
func TestConversionToTheSame(t *testing.T) {
	b := open(t, "")
	main := b.Builder("same").(*Builder).main
	x := must(main.Parameter("x", f32(3), nil))
	if y := must(main.ConvertDType(x, dtypes.Float32)); y != x {
		t.Error("a node was recorded")
	}
	closure := must(main.Closure()).(*Function)
	y := must(closure.ConvertDType(x, dtypes.Float32)).(*value)
	if y.fn != closure || y.node.Op != ir.OpCapture {
		t.Errorf("in a closure: %s of %p", opName(y.node.Op), y.fn)
	}
}

// TestEqualOperationsAreMerged: equal operations are one value, those that differ in anything are not, and barriers never.
func TestEqualOperationsAreMerged(t *testing.T) {
	b := open(t, "")
	b.extra = extras()
	main := b.Builder("merged").(*Builder).main
	x, i := must(main.Parameter("x", f32(4, 4), nil)), must(main.Parameter("i", i32(), nil))
	closure := must(main.Closure()).(*Function)
	large := make([]float32, 17)
	zero := float32(0)
	for name, c := range map[string]struct {
		make func(f *Function, variant int) (compute.Value, error)
		same bool
	}{
		"equal": {func(f *Function, _ int) (compute.Value, error) { return f.Exp(x) }, true},
		"axes":  {func(f *Function, v int) (compute.Value, error) { return f.ReduceSum(x, v) }, false},
		"shape": {func(f *Function, v int) (compute.Value, error) { return f.Reshape(x, 2+6*v, 8-6*v) }, false},
		"dtype": {func(f *Function, v int) (compute.Value, error) {
			return f.ConvertDType(x, []dtypes.DType{dtypes.Int32, dtypes.Bool}[v])
		}, false},
		"constant": {func(f *Function, _ int) (compute.Value, error) { return f.Constant([]float32{1}) }, true},
		"zeros":    {func(f *Function, v int) (compute.Value, error) { return f.Constant([]float32{zero * float32(1-2*v)}) }, false},
		"large":    {func(f *Function, _ int) (compute.Value, error) { return f.Constant(large, 17) }, false},
		"barrier":  {func(f *Function, _ int) (compute.Value, error) { return f.SchedulingBarrier(x, i) }, false},
		"native": {func(f *Function, v int) (compute.Value, error) {
			return f.DynamicSlice(x, []compute.Value{i, i}, []int{2, 2})
		}, true},
		"operands": {func(f *Function, v int) (compute.Value, error) {
			return f.Sub([]compute.Value{x, must(f.Neg(x))}[v], must(f.Abs(x)))
		}, false},
		"in itself": {func(f *Function, v int) (compute.Value, error) { return f.Add(must(f.Sin(x)), must(f.Sin(x))) }, true},
	} {
		first, second := must(c.make(main, 0)), must(c.make(main, 1))
		if (first == second) != c.same {
			t.Errorf("%s: merged: %t", name, first == second)
		}
		if inside := must(c.make(closure, 0)); inside == first {
			t.Errorf("%s: a closure has main's value", name)
		}
	}
}
