package model

import (
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/internal/check"
)

// rotaryTol bounds the relative error of a rotation: two products, a sum and rounded cosines.
const rotaryTol = 4 * eps32

const (
	rotaryRows, rotaryHeads, rotaryLength, rotaryDim = 2, 3, 9, 8
)

// rotateAll turns the heads of x [rows, heads, length, dim]; positions [rows, length] may be nil.
func rotateAll(r Rope, x array, positions []int32, scale float64) (out []float64) {
	values, heads := wide(x.values), x.dims[1]
	for i := range len(values) / rotaryDim {
		at := i % rotaryLength
		if positions != nil {
			at = int(positions[i/rotaryLength/heads*rotaryLength+at])
		}
		turned := plainRotate(r, at, values[i*rotaryDim:(i+1)*rotaryDim])
		out = append(out, each(func(x float64) float64 { return scale * x }, turned)...)
	}
	return out
}

// rotated runs the graph's rotation of queries and keys.
func rotated(t *testing.T, r Rope, q, k array, positions []int32) [][]float32 {
	c := Config{Heads: rotaryHeads, KVHeads: 1, HeadDim: rotaryDim, Rope: r}
	return run(t, mlmodel.NewStore(), []any{q.tensor(), k.tensor()}, func(in []*Node) []*Node {
		var at *Node
		if positions != nil {
			at = Const(in[0].Graph(), tensors.FromFlatDataAndDimensions(positions, rotaryRows, rotaryLength))
		}
		r := newRotary(in[0].Graph(), c, batchShape{rows: rotaryRows, length: rotaryLength}, rotaryLength, at)
		return []*Node{r.queries(in[0]), r.keys(in[1])}
	})
}

// TestRotary compares the rotation of queries (scaled by 1/√8) and keys with complex numbers: plain and with both scalings,
// at positions 0 to 8 and at given ones.
func TestRotary(t *testing.T) {
	q, k := random(1, 1, rotaryRows, rotaryHeads, rotaryLength, rotaryDim), random(2, 1, rotaryRows, 1, rotaryLength, rotaryDim)
	given := []int32{0, 1, 2, 0, 1, 2, 3, 4, 5, 8, 7, 6, 5, 4, 3, 2, 1, 0}
	scale := Config{HeadDim: rotaryDim}.attentionScale()
	llama3 := RopeScaling{Type: "llama3", Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4, OriginalMaxPositions: 32}
	for name, r := range map[string]Rope{
		"plain":  {Base: 10000},
		"linear": {Base: 500, Scaling: RopeScaling{Type: "linear", Factor: 3}},
		"llama3": {Base: 10, Scaling: llama3}, // wavelengths 6, 11, 20 and 35: one kept, two blended, one divided
	} {
		for _, positions := range [][]int32{nil, given} {
			got := rotated(t, r, q, k, positions)
			check.Close(t, name+" queries", wide(got[0]), rotateAll(r, q, positions, scale), rotaryTol)
			check.Close(t, name+" keys", wide(got[1]), rotateAll(r, k, positions, 1), rotaryTol)
			other := r
			other.Base *= 1.0001
			bites(t, name+" queries", wide(got[0]), rotateAll(other, q, positions, scale), rotaryTol)
			bites(t, name+" keys", wide(got[1]), rotateAll(other, k, positions, 1), rotaryTol)
		}
		if same := check.Relative(rotateAll(r, q, given, 1), rotateAll(r, q, nil, 1)); same < 0.1 {
			t.Errorf("%s: the given positions make no difference", name)
		}
	}
	turns := make([]float64, 4)
	for i := range turns {
		turns[i] = plainFrequency(Rope{Base: 10, Scaling: llama3}, i, rotaryDim) / plainFrequency(Rope{Base: 10}, i, rotaryDim)
	}
	if !(turns[0] == 1 && turns[1] < 1 && turns[2] > 0.125 && turns[3] == 0.125) {
		t.Errorf("llama3 divides the frequencies by %v: the case does not cover all three ranges", turns)
	}
}
