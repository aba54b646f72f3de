package manifold

import (
	"math"
	"strings"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/oracle"
)

// everySolver runs over solvers and norms, with a few steps.
func everySolver() (out []Solver) {
	for _, name := range Solvers() {
		for _, norm := range Norms() {
			s := Solver{Name: name, Norm: norm, Steps: 4}
			if name == Oracle {
				s.Steps = 0
			}
			out = append(out, s)
		}
	}
	return out
}

// direction returns what a solver finds at w for g, from nothing.
func direction(t testing.TB, s Solver, set Set, w, g *mat.Dense) *mat.Dense {
	t.Helper()
	return single.apply(t, func(in []*Node) *Node {
		d, _ := s.Direction(set, in[0], in[1], nil)
		return d
	}, w, g)
}

// TestFrobeniusIsProjection: in the Frobenius norm every solver but the oracle gives the projection of -G, scaled to norm one.
func TestFrobeniusIsProjection(t *testing.T) {
	const tol = 2e-3 // the gap of pdhg; the others are within 1e-5
	for i, m := range members(t, 12, 12) {
		g := oracle.Gaussian(uint64(i), 12, 12)
		want := must[*mat.Dense](t)(oracleTangentRelative(m.set, m.w, scaled(-1, g)))
		want = scaled(1/norm(want), want)
		for _, s := range everySolver() {
			if s.Norm != Frobenius {
				continue
			}
			e := relative(direction(t, s, m.set, m.w, g), want)
			if s.Name == Oracle {
				if at := relative(want, scaled(-1/norm(inSpace(m.set, g)), inSpace(m.set, g))); at > 0.1 && !(e > tol) {
					t.Errorf("%s: the oracle is the projection too", m)
				}
				continue
			}
			if !(e <= tol) {
				t.Errorf("%s %s: %.1e from the projection", m, s.Name, e)
			}
		}
	}
}

// TestDirectionInside: where no bound is near, every solver gives the direction of Muon, or the normalised gradient.
func TestDirectionInside(t *testing.T) {
	const tol = 2e-3 // the polar factor's error in training
	for _, shape := range [][2]int{{14, 9}, {9, 14}, {9, 9}} {
		for i, m := range members(t, shape[0], shape[1]) {
			if m.name != "inside" {
				continue
			}
			g := inSpace(m.set, oracle.Gaussian(uint64(i), shape[0], shape[1]))
			for _, s := range everySolver() {
				want := scaled(-1/norm(g), g)
				if s.Norm == Spectral {
					want = scaled(-1, must[*mat.Dense](t)(oracle.Msign(g)))
				}
				if e := relative(direction(t, s, m.set, m.w, g), want); !(e <= tol) {
					t.Errorf("%s %s %s: %.1e from the direction without a set", m, s.Name, s.Norm, e)
				}
			}
		}
	}
}

// TestDirectionScale: the size of the gradient does not matter, and a gradient of zero moves nothing far.
func TestDirectionScale(t *testing.T) {
	for i, m := range members(t, 10, 10) {
		if m.name != "mixed" && m.set.Name != Stiefel {
			continue
		}
		g := single.round(t, oracle.Gaussian(uint64(i), 10, 10))
		for _, s := range everySolver() {
			want := direction(t, s, m.set, m.w, g)
			for _, scale := range []float64{math.Pow(2, -60), math.Pow(2, 40)} {
				if e := relative(direction(t, s, m.set, m.w, scaled(scale, g)), want); !(e <= 1e-5) {
					t.Errorf("%s %s %s: a gradient of scale %.0e changes the direction by %.1e", m, s.Name, s.Norm, scale, e)
				}
			}
			still := direction(t, s, m.set, m.w, mat.NewDense(10, 10, nil))
			if n := must[float64](t)(oracle.SpectralNorm(still)); !(n <= 1e-6) {
				t.Errorf("%s %s %s: a zero gradient gives a direction of norm %.1e", m, s.Name, s.Norm, n)
			}
		}
	}
}

// TestDirectionOutside: at a matrix far outside of the set directions stay bounded, with any solver.
func TestDirectionOutside(t *testing.T) {
	for i, m := range members(t, 12, 12) {
		if m.name != "both" && m.set.Name != Stiefel {
			continue
		}
		for _, s := range everySolver() {
			if s.Name == PDHG {
				s.Steps = 40
			}
			d := direction(t, s, m.set, scaled(1e4, oracle.Gaussian(uint64(i), 12, 12)), oracle.Gaussian(uint64(i+1), 12, 12))
			if n := must[float64](t)(oracle.SpectralNorm(d)); !(n <= 1.001 && n > 0.1) {
				t.Errorf("%s %s %s: norm %g", m.set.Name, s.Name, s.Norm, n)
			}
		}
	}
}

// TestNoWayDown: at a corner from which every direction of the cone leads up, the value is zero as far as the solver has come.
func TestNoWayDown(t *testing.T) {
	a := oracle.Gaussian(1, 9, 9)
	var g mat.Dense
	g.Mul(a, a.T()) // positive definite, and only positive semidefinite directions are allowed
	w := mat.NewDense(9, 9, nil)
	for _, name := range []string{Alternating, PDHG, Dual} {
		d := direction(t, Solver{Name: name, Norm: Spectral}, Set{Name: PSD}, w, &g)
		if value := dot(&g, d) / mat.Trace(&g); !(math.Abs(value) <= 0.03) {
			t.Errorf("%s moves by %.3f of the dual norm", name, value)
		}
	}
}

// TestWarmStart: over gradients that change slowly, a few iterations from the step before come closer to the optimum than as many
// from nothing; from zeros they are the same.
func TestWarmStart(t *testing.T) {
	const rounds, steps = 8, 6
	for _, name := range []string{PDHG, Dual} {
		var warm, cold float64
		for i, m := range members(t, 16, 12) {
			if m.name != "upper" {
				continue
			}
			s := Solver{Name: name, Norm: Spectral, Steps: steps}
			memory := make([]*mat.Dense, s.Memory())
			for k := range memory {
				memory[k] = mat.NewDense(16, 12, nil)
			}
			step := func(g *mat.Dense, start []*mat.Dense) (*mat.Dense, []*mat.Dense) {
				out := single.call(t, func(in []*Node) []*Node {
					d, next := s.Direction(m.set, in[0], in[1], in[2:])
					return append([]*Node{d}, next...)
				}, append([]*mat.Dense{m.w, g}, start...)...)
				var next []*mat.Dense
				for _, flat := range out[1:] {
					next = append(next, mat.NewDense(16, 12, flat))
				}
				return mat.NewDense(16, 12, out[0]), next
			}
			value := func(g, d *mat.Dense) float64 {
				inside := must[*mat.Dense](t)(oracleTangentRelative(m.set, m.w, d))
				return -dot(g, inside) / max(1, must[float64](t)(oracle.SpectralNorm(inside))) / nuclear(t, g)
			}
			zeros := memory
			g := oracle.Gaussian(uint64(i), 16, 12)
			for round := range rounds {
				g = add(g, scaled(0.05, oracle.Gaussian(uint64(1000*i+round), 16, 12)))
				var d *mat.Dense
				d, memory = step(g, memory)
				fresh, _ := step(g, zeros)
				if e := relative(fresh, direction(t, s, m.set, m.w, g)); !(e <= 1e-4) {
					t.Errorf("%s %s: from zeros %.1e from a start from nothing", m, name, e)
				}
				warm, cold = warm+value(g, d), cold+value(g, fresh)
			}
		}
		t.Logf("%s: sum of values %.4f warm, %.4f cold", name, warm, cold)
		if !(warm > cold*1.002) {
			t.Errorf("%s: values add up to %.4f warm and %.4f cold", name, warm, cold)
		}
	}
}

// TestDirectionBatch: each matrix of a batch gets the direction it gets alone, up to how long the batch iterates.
func TestDirectionBatch(t *testing.T) {
	set := Set{Name: Band, Lo: 0.5, Hi: 2}
	var ws, gs []*mat.Dense
	for i, m := range members(t, 14, 10) {
		if m.set == set {
			ws, gs = append(ws, m.w), append(gs, oracle.Gaussian(uint64(i), 14, 10))
		}
	}
	for _, s := range everySolver() {
		exec := must[*Exec](t)(NewExec(check.Backend(t), func(w, g *Node) *Node {
			d, _ := s.Direction(set, w, g, nil)
			return d
		}))
		flat := tensors.MustCopyFlatData[float32](must[*tensors.Tensor](t)(exec.Call1(single.tensor(ws...), single.tensor(gs...))))
		exec.Finalize()
		for i := range ws {
			got := must[*mat.Dense](t)(oracle.FromFloat32(flat[i*140:(i+1)*140], 14, 10))
			if e := relative(got, direction(t, s, set, ws[i], gs[i])); !(e <= 3e-3) { // pdhg goes on as long as any matrix needs it
				t.Errorf("%s %s: matrix %d is %.1e from alone", s.Name, s.Norm, i, e)
			}
		}
	}
}

// TestSolverRefusals: misuse is named.
func TestSolverRefusals(t *testing.T) {
	ball := Set{Name: Ball, Radius: 1}
	for want, fn := range map[string]func(w *Node){
		`unknown solver "dul"; known: oracle, alternating, pdhg, dual; did you mean "dual"?`: func(w *Node) { Solver{Name: "dul", Norm: Spectral}.Direction(ball, w, w, nil) },
		`unknown norm ""; known: spectral, frobenius`:                                        func(w *Node) { Solver{Name: Dual}.Direction(ball, w, w, nil) },
		"steps must be 0 or more, got -1":                                                    func(w *Node) { Solver{Name: Dual, Norm: Spectral, Steps: -1}.Direction(ball, w, w, nil) },
		"solver oracle takes no steps, got 2":                                                func(w *Node) { Solver{Name: Oracle, Norm: Spectral, Steps: 2}.Direction(ball, w, w, nil) },
		"got 1 arrays to start solver pdhg from, want 2":                                     func(w *Node) { Solver{Name: PDHG, Norm: Spectral}.Direction(ball, w, w, []*Node{w}) },
		"want square matrices":                                                               func(w *Node) { Solver{Name: Dual, Norm: Spectral}.Direction(Set{Name: PSD}, w, w, nil) },
	} {
		exec := must[*Exec](t)(NewExec(check.Backend(t), func(w *Node) *Node { fn(w); return w }))
		if _, err := exec.Call(single.tensor(oracle.Gaussian(1, 3, 4))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
		exec.Finalize()
	}
}

// TestDecayIsABall: W ← (1 - eta·lambda) W + D with ‖D‖ <= eta ends within ‖W‖ <= 1/lambda, which is why a ball of radius R is compared
// with a decay of 1/R: the directions of largest growth reach it, random ones stay below, and without decay there is no such bound.
func TestDecayIsABall(t *testing.T) {
	const eta, lambda, steps = 0.1, 0.5, 400
	simulate := func(lambda float64, next func(w *mat.Dense, step int) *mat.Dense) (last float64) {
		w := scaled(3, oracle.Gaussian(1, 12, 8))
		for i := range steps {
			d := next(w, i)
			if n := must[float64](t)(oracle.SpectralNorm(d)); n > 1+1e-12 {
				t.Fatalf("direction of norm %g", n)
			}
			w = add(scaled(1-eta*lambda, w), scaled(eta, d))
			if i >= steps/2 {
				last = max(last, must[float64](t)(oracle.SpectralNorm(w)))
			}
		}
		return last
	}
	outward := func(w *mat.Dense, _ int) *mat.Dense { return must[*mat.Dense](t)(oracle.Msign(w)) }
	random := func(_ *mat.Dense, i int) *mat.Dense {
		return must[*mat.Dense](t)(oracle.Msign(oracle.Gaussian(uint64(i), 12, 8)))
	}
	const tol = 1e-3 // (1 - eta·lambda)^200 of the start's distance is 3.5e-5 of 17
	if got := simulate(lambda, outward); !(got <= 1/lambda*(1+tol) && got >= 1/lambda*(1-tol)) {
		t.Errorf("outward directions end at norm %.4f, want 1/lambda = %g", got, 1/lambda)
	}
	if got := simulate(lambda, random); !(got < 0.7/lambda) {
		t.Errorf("random directions end at norm %.4f, not well below 1/lambda = %g", got, 1/lambda)
	}
	if got := simulate(0, outward); !(got > 10/lambda) {
		t.Errorf("without decay outward directions end at norm %.4f only", got)
	}
}
