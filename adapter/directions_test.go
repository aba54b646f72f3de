package adapter

import (
	"strings"
	"testing"

	"github.com/polargo/polar/adapter/peft"
	"github.com/polargo/polar/internal/oracle"
	"github.com/polargo/polar/param"
	"gonum.org/v1/gonum/mat"
)

// TestDirectionsOf holds directions against the SVD of the whole product: of full rank, of an adapter that is the difference of two
// nearly equal products, of lower rank than its factors, and of a product that is zero.
func TestDirectionsOf(t *testing.T) {
	const m, n, r = 14, 11, 3
	const tol = 1e-5 // float32 of the directions; of the difference, whose factors are ten times it; worst here 4.8e-7
	layers := []param.Layer{
		{Name: "full", Weight: "/full", FanOut: m, FanIn: n}, {Name: "free", Weight: "/free", FanOut: m, FanIn: n},
		{Name: "moved", Weight: "/moved", FanOut: m, FanIn: n}, {Name: "low", Weight: "/low", FanOut: m, FanIn: n}, {Name: "still", Weight: "/still", FanOut: m, FanIn: n},
	}
	round := func(x mat.Matrix) *mat.Dense {
		rows, cols := x.Dims()
		out, err := oracle.FromFloat32(oracle.Float32(x), rows, cols)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	side := func(blocks ...*mat.Dense) *mat.Dense { // blocks beside each other
		out := blocks[0]
		for _, block := range blocks[1:] {
			joined := new(mat.Dense)
			joined.Augment(out, block)
			out = joined
		}
		return out
	}
	random := func(seed uint64, rows, cols int) *mat.Dense { return round(oracle.Gaussian(seed, rows, cols)) }
	near := func(seed uint64, x *mat.Dense) *mat.Dense {
		rows, cols := x.Dims()
		var out mat.Dense
		out.Scale(0.05, random(seed, rows, cols))
		out.Add(&out, x)
		return round(&out)
	}
	minus := func(x *mat.Dense) *mat.Dense { var out mat.Dense; out.Scale(-1, x); return &out }
	a0, b0 := random(1, m, r), random(2, n, r)
	column := random(3, m, 1)
	pairs := map[string][2]*mat.Dense{
		"full": {random(4, m, r), random(5, n, r)}, "moved": {side(near(6, a0), a0), side(near(7, b0), minus(b0))},
		"low": {side(column, column, column), random(8, n, r)}, "still": {random(9, m, r), mat.NewDense(n, r, nil)},
	}
	past := &peft.Adapter{}
	for name, p := range pairs {
		_, rank := p[0].Dims()
		past.Pairs = append(past.Pairs, peft.Pair{Layer: name, FanOut: m, FanIn: n, Rank: rank, Scale: 2, A: oracle.Float32(p[0]), B: oracle.Float32(p[1])})
	}
	got, err := DirectionsOf(layers, past)
	if err != nil {
		t.Fatal(err)
	}
	ranks := map[string]int{"full": r, "moved": 2 * r, "low": 1}
	if len(got) != len(ranks) || got[0].Layer != "full" || got[1].Layer != "moved" || got[2].Layer != "low" {
		t.Fatalf("directions %+v, want those of full, moved and low", got)
	}
	for _, d := range got {
		if d.Rank != ranks[d.Layer] || d.FanOut != m || d.FanIn != n || len(d.U) != m*d.Rank || len(d.V) != n*d.Rank {
			t.Fatalf("layer %s: %d directions of %d x %d, want %d", d.Layer, d.Rank, d.FanOut, d.FanIn, ranks[d.Layer])
		}
		var product mat.Dense
		product.Mul(pairs[d.Layer][0], pairs[d.Layer][1].T())
		u, _, v, err := oracle.SVD(&product)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []struct {
			got  []float32
			want *mat.Dense
			rows int
		}{{d.U, u, m}, {d.V, v, n}} {
			found, err := oracle.FromFloat32(s.got, s.rows, d.Rank)
			if err != nil {
				t.Fatal(err)
			}
			// The same span, of orthonormal columns: the projectors agree.
			var one, other mat.Dense
			one.Mul(found, found.T())
			best := s.want.Slice(0, s.rows, 0, d.Rank)
			other.Mul(best, best.T())
			one.Sub(&one, &other)
			if e := mat.Norm(&one, 2); !(e <= tol) {
				t.Errorf("layer %s: the projector is off by %.1e", d.Layer, e)
			}
			other.Mul(s.want.Slice(0, s.rows, 1, d.Rank+1), s.want.Slice(0, s.rows, 1, d.Rank+1).T())
			one.Mul(found, found.T())
			one.Sub(&one, &other)
			if !(mat.Norm(&one, 2) > 0.1) {
				t.Errorf("layer %s: other directions pass", d.Layer)
			}
		}
	}
	if _, err := DirectionsOf(layers[1:], past); err == nil || !strings.Contains(err.Error(), "the model has no layer full") {
		t.Errorf("error %v of another model", err)
	}
}
