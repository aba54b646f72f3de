package manifold

import (
	"fmt"
	"math"
	"strings"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/oracle"
)

// tangentOf returns the exported function of a set as a function of w and x.
func tangentOf(s Set, tol float64, p precision) func(in []*Node) *Node {
	return func(in []*Node) *Node {
		w, x := in[0], in[1]
		switch s.Name {
		case PSD:
			return TangentPSD(w, x, tol, p.opts...)
		case Spectrahedron:
			return TangentSpectrahedron(w, x, s.Lo, s.Hi, tol, p.opts...)
		case Ball:
			return TangentBall(w, x, s.Radius, tol, p.opts...)
		case Band:
			return TangentBand(w, x, s.Lo, s.Hi, tol, p.opts...)
		}
		return TangentStiefel(w, x, p.opts...)
	}
}

// oracleTangent is the same by SVD or eigendecomposition.
func oracleTangent(s Set, w, x *mat.Dense, tol float64) (*mat.Dense, error) {
	switch s.Name {
	case PSD:
		return oracle.TangentPSD(w, x, tol)
	case Spectrahedron:
		return oracle.TangentSpectrahedron(w, x, s.Lo, s.Hi, tol)
	case Ball:
		return oracle.TangentBall(w, x, s.Radius, tol)
	case Band:
		return oracle.TangentBand(w, x, s.Lo, s.Hi, tol)
	}
	return oracle.TangentStiefel(w, x)
}

func (m member) String() string {
	rows, cols := m.w.Dims()
	return fmt.Sprintf("%s/%s/%dx%d", m.set.Name, m.name, rows, cols)
}

// TestTangentOracle holds every projection against the one by decomposition, in both precisions, at scales of x from 1e-12 to 1e12.
func TestTangentOracle(t *testing.T) {
	for _, test := range []struct {
		p   precision
		tol float64
	}{
		{single, 1e-5},  // rounding of some 30 products in float32; the worst here was 2.4e-6
		{double, 1e-12}, // the same of float64; the worst here was 3.8e-15
	} {
		t.Run(test.p.name, func(t *testing.T) {
			worst := 0.0
			for i, shape := range testShapes {
				for _, m := range members(t, shape[0], shape[1]) {
					scale := math.Pow(10, float64(12*(i%3-1)))
					w := test.p.round(t, m.w)
					x := test.p.round(t, scaled(scale, oracle.Gaussian(uint64(i+7), shape[0], shape[1])))
					got := test.p.apply(t, tangentOf(m.set, DefaultTol, test.p), w, x)
					want := must[*mat.Dense](t)(oracleTangent(m.set, w, x, DefaultTol))
					e := norm(sub(got, want)) / norm(x)
					if !(e <= test.tol) {
						t.Errorf("%s: %.2e from the oracle, want %g of the norm of x", m, e, test.tol)
					}
					worst = max(worst, e)
				}
			}
			t.Logf("worst %.2e", worst)
		})
	}
}

// TestTangentBites: what the oracle test compares is not what it would be with another tolerance, bound or set.
func TestTangentBites(t *testing.T) {
	x := oracle.Gaussian(3, 12, 9)
	w := must[*mat.Dense](t)(oracle.WithSingularValues(4, 12, 9, []float64{2, 2, 2, 1.9995, 1, 0.8, 0.5, 0.5, 0.5}))
	band := Set{Name: Band, Lo: 0.5, Hi: 2}
	want := must[*mat.Dense](t)(oracleTangent(band, w, x, 1e-3))
	if e := relative(double.apply(t, tangentOf(band, 1e-3, double), w, x), want); !(e < 1e-3) { // 1.9995 is in the tolerance, where J is no isometry
		t.Errorf("%.1e from the oracle", e)
	}
	for name, change := range map[string]struct {
		set Set
		tol float64
	}{
		"narrower tolerance": {band, 1e-4}, "no lower bound": {Set{Name: Ball, Radius: 2}, 1e-3}, "higher bound": {Set{Name: Band, Lo: 0.5, Hi: 2.1}, 1e-3},
		"lower bound": {Set{Name: Band, Lo: 0.45, Hi: 2}, 1e-3}, "all at the bounds": {Set{Name: Stiefel}, 1e-3},
	} {
		if e := relative(double.apply(t, tangentOf(change.set, change.tol, double), w, x), want); !(e > 1e-2) {
			t.Errorf("%s changes the projection by %.1e only", name, e)
		}
	}
}

// distanceOf is the distance of y from a set, by decomposition.
func distanceOf(t testing.TB, s Set, y *mat.Dense) float64 {
	t.Helper()
	var nearest *mat.Dense
	var err error
	switch lo, hi := s.band(); s.Name {
	case PSD:
		nearest, err = oracle.ProjPSD(y)
	case Spectrahedron:
		nearest, err = oracle.EigClip(y, s.Lo, s.Hi)
	default:
		nearest, err = oracle.SpectralClip(y, lo, hi)
	}
	if err != nil {
		t.Fatal(err)
	}
	return norm(sub(y, nearest))
}

// TestTangentProperties: each projection is idempotent, does not expand, is orthogonal to what it removes, and gives
// directions that leave the set in second order only, where x itself leaves it in first.
func TestTangentProperties(t *testing.T) {
	for _, test := range []struct {
		p            precision
		tol, leaving float64
	}{
		{single, 1e-5, 0},  // worst 3.5e-7; as TestTangentOracle; float32 cannot resolve how W + δT leaves the set
		{double, 1e-12, 2}, // worst 1.1e-15; W + δT is within 2 δ² of the set: the curvature, one over the gap to the values inside; worst 0.5
	} {
		t.Run(test.p.name, func(t *testing.T) {
			var worst [4]float64
			for i, shape := range testShapes[:6] {
				for _, m := range members(t, shape[0], shape[1]) {
					w := test.p.round(t, m.w)
					unit := func(seed int) *mat.Dense {
						x := oracle.Gaussian(uint64(seed), shape[0], shape[1])
						return test.p.round(t, scaled(1/norm(x), x))
					}
					x, y := unit(i+7), unit(i+70)
					project := tangentOf(m.set, DefaultTol, test.p)
					out := test.p.call(t, func(in []*Node) []*Node {
						tx := project([]*Node{in[0], in[1]})
						return []*Node{tx, project([]*Node{in[0], tx}), project([]*Node{in[0], in[2]})}
					}, w, x, y)
					matrix := func(k int) *mat.Dense { return mat.NewDense(shape[0], shape[1], out[k]) }
					tx, again, ty := matrix(0), matrix(1), matrix(2)
					measured := [4]float64{
						norm(sub(again, tx)),
						norm(sub(tx, ty)) - norm(sub(x, y)),
						math.Abs(dot(sub(x, tx), tx)),
						0,
					}
					if test.leaving > 0 {
						const delta = 1e-4
						measured[3] = distanceOf(t, m.set, add(w, scaled(delta, tx))) / (delta * delta)
						before := distanceOf(t, m.set, add(w, scaled(delta, x))) / (delta * delta)
						if removed := norm(sub(x, tx)); removed > 0.1 && !(before > 4*test.leaving) {
							t.Errorf("%s: x leaves the set by %.1f δ² only, although the projection removes %.2f of it", m, before, removed)
						}
					}
					for k, name := range []string{"twice is not once by", "expands by", "not orthogonal by", ""} {
						if name != "" && !(measured[k] <= test.tol) {
							t.Errorf("%s: %s %.2e", m, name, measured[k])
						}
						worst[k] = max(worst[k], measured[k])
					}
					if !(measured[3] <= test.leaving) {
						t.Errorf("%s: leaves the set by %.1f δ²", m, measured[3])
					}
				}
			}
			t.Logf("worst %.1e", worst)
		})
	}
}

// TestBandIsStiefel: with lo = hi = 1 the two faces of the band are the whole of the manifold's tangent space.
func TestBandIsStiefel(t *testing.T) {
	for _, p := range []precision{single, double} {
		tol := map[bool]float64{false: 5e-6, true: 1e-12}[p.double] // rounding; the worst here were 3.4e-7 and 7.8e-16
		for i, shape := range testShapes {
			w := p.round(t, must[*mat.Dense](t)(oracle.Msign(oracle.Gaussian(uint64(i), shape[0], shape[1]))))
			x := p.round(t, oracle.Gaussian(uint64(i+50), shape[0], shape[1]))
			want := p.apply(t, tangentOf(Set{Name: Stiefel}, 0, p), w, x)
			band := func(w *mat.Dense) float64 {
				return norm(sub(p.apply(t, tangentOf(Set{Name: Band, Lo: 1, Hi: 1}, DefaultTol, p), w, x), want)) / norm(x)
			}
			e := band(w)
			t.Logf("%s %v: %.1e", p.name, shape, e)
			if !(e <= tol) {
				t.Errorf("%s %v: the band is %.1e from the Stiefel manifold, want %g", p.name, shape, e, tol)
			}
			if off := band(scaled(0.99, w)); shape[0]*shape[1] > 1 && !(off > tol) {
				t.Errorf("%s %v: the band at another matrix is only %.1e away", p.name, shape, off)
			}
		}
	}
}

// TestTangentInside: strictly inside a ball the projection is the identity, to the last bits.
func TestTangentInside(t *testing.T) {
	w, x := scaled(0.1, oracle.Gaussian(1, 20, 30)), single.round(t, oracle.Gaussian(2, 20, 30))
	if e := relative(single.apply(t, tangentOf(Set{Name: Ball, Radius: 2}, DefaultTol, single), w, x), x); !(e <= 2e-7) {
		t.Errorf("the projection moves x by %.1e", e)
	}
}

// TestTangentBatch: matrices of a batch with different numbers of values at the bound get what each gets alone.
func TestTangentBatch(t *testing.T) {
	var ws, xs []*mat.Dense
	set := Set{Name: Band, Lo: 0.5, Hi: 2}
	for i, m := range members(t, 24, 16) {
		if m.set == set {
			ws, xs = append(ws, m.w), append(xs, single.round(t, oracle.Gaussian(uint64(i), 24, 16)))
		}
	}
	exec := must[*Exec](t)(NewExec(check.Backend(t), func(w, x *Node) *Node { return tangentOf(set, DefaultTol, single)([]*Node{w, x}) }))
	defer exec.Finalize()
	out := must[*tensors.Tensor](t)(exec.Call1(single.tensor(ws...), single.tensor(xs...)))
	flat := tensors.MustCopyFlatData[float32](out)
	for i := range ws {
		got := must[*mat.Dense](t)(oracle.FromFloat32(flat[i*24*16:(i+1)*24*16], 24, 16))
		if e := relative(got, single.apply(t, tangentOf(set, DefaultTol, single), ws[i], xs[i])); !(e <= 5e-6) { // products add in another order
			t.Errorf("matrix %d: %.1e from alone", i, e)
		}
	}
}

// TestTangentPanics: misuse is refused while the graph is built, and named.
func TestTangentPanics(t *testing.T) {
	square, wide := oracle.Gaussian(1, 4, 4), oracle.Gaussian(1, 4, 6)
	for want, fn := range map[string]func(w, wide *Node) *Node{
		"want square matrices":             func(_, wide *Node) *Node { return TangentPSD(wide, wide, 0) },
		"want equal shapes":                func(w, wide *Node) *Node { return TangentBall(w, wide, 1, 0) },
		"want finite bounds lo <= hi":      func(w, _ *Node) *Node { return TangentSpectrahedron(w, w, 1, 0, 0) },
		"wants finite bounds 0 < lo":       func(w, _ *Node) *Node { return TangentBand(w, w, 0, 1, 0) },
		"wants a positive radius":          func(w, _ *Node) *Node { return TangentBall(w, w, 0, 0) },
		"got the tolerance -1":             func(w, _ *Node) *Node { return TangentPSD(w, w, -1) },
		"want a floating point":            func(w, _ *Node) *Node { return TangentPSD(ReduceAllSum(w), w, 0) },
		`unknown set "bal"; known: psd,`:   func(w, _ *Node) *Node { return Set{Name: "bal"}.Retract(w) },
		`did you mean "ball"?`:             func(w, _ *Node) *Node { return Set{Name: "bal"}.Retract(w) },
		"wants finite bounds lo < hi, got": func(w, _ *Node) *Node { return Set{Name: Spectrahedron}.Retract(w) },
	} {
		exec := must[*Exec](t)(NewExec(check.Backend(t), func(w, wide *Node) *Node { return fn(w, wide) }))
		if _, err := exec.Call(single.tensor(square), single.tensor(wide)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
		exec.Finalize()
	}
}

// TestTangentNonFinite: NaN in a matrix makes all of that matrix NaN.
func TestTangentNonFinite(t *testing.T) {
	for _, shape := range [][2]int{{6, 6}} {
		for _, m := range members(t, shape[0], shape[1]) {
			w := mat.DenseCopyOf(m.w)
			w.Set(1, 2, math.NaN())
			got := single.apply(t, tangentOf(m.set, DefaultTol, single), w, oracle.Gaussian(1, 6, 6))
			for _, v := range got.RawMatrix().Data {
				if !math.IsNaN(v) {
					t.Errorf("%s: a weight with NaN gives %v", m, v)
					break
				}
			}
		}
	}
}

// TestTangentLarge is TestTangentOracle at a size of real layers.
func TestTangentLarge(t *testing.T) {
	check.Long(t)
	const tol = 1e-5 // as TestTangentOracle; the worst here was 1.6e-6, and the same at 512 x 512
	worst := 0.0
	for _, shape := range [][2]int{{256, 320}, {256, 256}} {
		for i, m := range members(t, shape[0], shape[1]) {
			if m.name != "mixed" && m.set.Name != Stiefel {
				continue
			}
			w, x := single.round(t, m.w), single.round(t, oracle.Gaussian(uint64(i), shape[0], shape[1]))
			got := single.apply(t, tangentOf(m.set, DefaultTol, single), w, x)
			e := norm(sub(got, must[*mat.Dense](t)(oracleTangent(m.set, w, x, DefaultTol)))) / norm(x)
			if !(e <= tol) {
				t.Errorf("%s: %.2e from the oracle, want %g of the norm of x", m, e, tol)
			}
			worst = max(worst, e)
		}
	}
	t.Logf("worst %.2e", worst)
}
