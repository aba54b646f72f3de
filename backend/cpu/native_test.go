package cpu

import (
	"math"
	"reflect"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
)

// TestWhatIsRecordedCompiles: what the native compiler claims to have beyond the go backend, it compiles; a refusal at
// Compile comes too late for callers that could do without.
func TestWhatIsRecordedCompiles(t *testing.T) {
	b := open(t, "")
	seen := 0
	for _, s := range catalogue() {
		if !s.native || !nativeOps[s.op] {
			continue
		}
		seen++
		builder := b.Builder("compiles").(*Builder)
		out, _ := s.recorded(t, builder)
		if err := builder.main.Return(out, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := builder.Compile(); err != nil {
			t.Errorf("%s: %v", s.op, err)
		}
	}
	if seen < len(nativeOps) {
		t.Errorf("%d samples of %d operations", seen, len(nativeOps))
	}
}

// TestNotImplementedAtOnce: variants that the kernels lack are refused while building, as not implemented.
func TestNotImplementedAtOnce(t *testing.T) {
	b := open(t, "")
	main := b.Builder("variants").(*Builder).main
	param := func(dtype dtypes.DType, dims ...int) compute.Value {
		return must(main.Parameter("x", shapes.Make(dtype, dims...), nil))
	}
	attention := func(x compute.Value, config compute.ScaledDotProductAttentionConfig) error {
		_, _, err := main.FusedScaledDotProductAttention(x, x, x, compute.AttentionAxesLayoutBHSD, &config)
		return err
	}
	x, mask, lengths := param(dtypes.Float32, 2, 3, 4, 8), param(dtypes.Bool, 4, 4), param(dtypes.Int32, 2)
	wide, index := param(dtypes.Uint64), param(dtypes.Int32)
	slice := func(x compute.Value, start compute.Value) error {
		_, err := main.DynamicSlice(x, []compute.Value{start}, []int{2})
		return err
	}
	vector := param(dtypes.Float32, 4)
	_, updateErr := main.DynamicUpdateSlice(vector, vector, []compute.Value{wide})
	for name, err := range map[string]error{
		"bfloat16":      attention(param(dtypes.BFloat16, 2, 3, 4, 8), compute.ScaledDotProductAttentionConfig{}),
		"float16":       attention(param(dtypes.Float16, 2, 3, 4, 8), compute.ScaledDotProductAttentionConfig{}),
		"lengths":       attention(x, compute.ScaledDotProductAttentionConfig{QuerySeqLen: lengths, KeyValueSeqLen: lengths}),
		"mask and bias": attention(x, compute.ScaledDotProductAttentionConfig{Mask: mask, Bias: param(dtypes.Float32, 4, 4)}),
		"integer mask":  attention(x, compute.ScaledDotProductAttentionConfig{Mask: param(dtypes.Int32, 4, 4)}),
		"uint64 start":  slice(vector, wide),
		"packed":        slice(param(dtypes.Int4, 4), index),
		"update":        updateErr,
	} {
		if !compute.IsNotImplemented(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, err := range map[string]error{
		"one length":  attention(x, compute.ScaledDotProductAttentionConfig{QuerySeqLen: lengths}),
		"mask shape":  attention(x, compute.ScaledDotProductAttentionConfig{Mask: param(dtypes.Bool, 5, 4)}),
		"rank":        attention(param(dtypes.Float32, 3, 4, 8), compute.ScaledDotProductAttentionConfig{}),
		"float start": slice(vector, param(dtypes.Float32)),
		"too large":   func() error { _, err := main.DynamicSlice(vector, []compute.Value{index}, []int{5}); return err }(),
	} {
		if err == nil || compute.IsNotImplemented(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAttentionDefaultScale: a scale of 0 means 1/sqrt(dim), 1/4 here; another scale gives other values.
func TestAttentionDefaultScale(t *testing.T) {
	b := open(t, "")
	results := map[float64][]float32{}
	for _, scale := range []float64{0, 0.25, 0.5} {
		main := b.Builder("scale").(*Builder).main
		shape := f32(1, 2, 5, 16)
		inputs := make([]compute.Value, 3)
		buffers := make([]compute.Buffer, 3)
		for i := range inputs {
			inputs[i] = must(main.Parameter("x", shape, nil))
			buffers[i] = must(b.BufferFromFlatData(0, fill(shape, uint64(i)), shape))
		}
		out, _, err := main.FusedScaledDotProductAttention(inputs[0], inputs[1], inputs[2], compute.AttentionAxesLayoutBHSD,
			&compute.ScaledDotProductAttentionConfig{Scale: scale})
		if err != nil {
			t.Fatal(err)
		}
		if err := main.Return([]compute.Value{out}, nil); err != nil {
			t.Fatal(err)
		}
		result := must(must(main.builder.Compile()).Execute(buffers, nil, 0))
		results[scale] = must(result[0].Data()).([]float32)
	}
	if !reflect.DeepEqual(results[0], results[0.25]) {
		t.Errorf("%v, with the scale given %v", results[0][:4], results[0.25][:4])
	}
	if reflect.DeepEqual(results[0], results[0.5]) {
		t.Error("the scale does nothing")
	}
}

// TestDynamicSlices: starts are clamped, operands may be views, and the operand of an update is left alone.
func TestDynamicSlices(t *testing.T) {
	b := open(t, "")
	main := b.Builder("slices").(*Builder).main
	x := must(main.Parameter("x", f32(3, 4), nil))
	row, column := must(main.Parameter("row", i32(), nil)), must(main.Parameter("column", shapes.Make(dtypes.Int64), nil))
	turned := must(main.Transpose(x, 1, 0)) // 4 x 3
	small := must(main.Slice(must(main.Neg(turned)), []int{0, 0}, []int{2, 2}, nil))
	outputs := []compute.Value{
		must(main.DynamicSlice(x, []compute.Value{row, column}, []int{2, 2})),
		must(main.DynamicSlice(turned, []compute.Value{row, column}, []int{2, 2})),
		must(main.DynamicUpdateSlice(turned, small, []compute.Value{row, column})),
		must(main.Neg(x)),
	}
	if err := main.Return(outputs, nil); err != nil {
		t.Fatal(err)
	}
	e := must(main.builder.Compile())
	flat := make([]float32, 12)
	for i := range flat {
		flat[i] = float32(i + 1)
	}
	at := func(i, j int) float32 { return flat[4*i+j] }
	for _, start := range [][2]int{{0, 0}, {1, 1}, {-5, 2}, {7, math.MaxInt32}, {math.MinInt32, -1}} {
		buffers := []compute.Buffer{
			must(b.BufferFromFlatData(0, flat, f32(3, 4))), must(b.BufferFromFlatData(0, []int32{int32(start[0])}, i32())),
			must(b.BufferFromFlatData(0, []int64{int64(start[1])}, shapes.Make(dtypes.Int64))),
		}
		out := must(e.Execute(buffers, nil, 0))
		clamp := func(i, dim int) int { return min(max(i, 0), dim-2) }
		i, j := clamp(start[0], 3), clamp(start[1], 4)
		want := []float32{at(i, j), at(i, j+1), at(i+1, j), at(i+1, j+1)}
		if got := must(out[0].Data()); !reflect.DeepEqual(got, want) {
			t.Errorf("from %v: %v, want %v", start, got, want)
		}
		i, j = clamp(start[0], 4), clamp(start[1], 3)
		want = []float32{at(j, i), at(j+1, i), at(j, i+1), at(j+1, i+1)}
		if got := must(out[1].Data()); !reflect.DeepEqual(got, want) {
			t.Errorf("transposed, from %v: %v, want %v", start, got, want)
		}
		updated := make([]float32, 0, 12)
		for r := range 4 {
			for c := range 3 {
				v := at(c, r)
				if r >= i && r < i+2 && c >= j && c < j+2 {
					v = -at(c-j, r-i)
				}
				updated = append(updated, v)
			}
		}
		if got := must(out[2].Data()); !reflect.DeepEqual(got, updated) {
			t.Errorf("updated at %v: %v, want %v", start, got, updated)
		}
		if got := must(out[3].Data()).([]float32); got[0] != -1 || got[11] != -12 {
			t.Errorf("the operand became %v", got)
		}
	}
}
