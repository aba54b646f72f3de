package optimizer

import (
	"fmt"
	"math"
	"slices"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/oracle"
)

// pairState is a pair with its moments and the gradients of the next step.
type pairState struct{ a, b, mA, mB, gA, gB *mat.Dense }

// randomState draws a state: factors of the given condition number and of balance up to 30:1, moments that are zero, fresh (of
// one dense gradient at these factors) or stale (of earlier steps: unrelated), and gradients of a dense gradient at these factors.
func randomState(t testing.TB, seed, m, n, r int, cond float64) pairState {
	t.Helper()
	rng := random(seed, m*n+r)
	c := math.Exp(3.4 * (2*rng.Float64() - 1))
	factor := func(stream uint64, rows int, c float64) *mat.Dense {
		return rounded(scaled(c, must[*mat.Dense](t)(oracle.RandomMatrix(uint64(seed)*2+stream, rows, r, cond))))
	}
	st := pairState{a: factor(0, m, c), b: factor(1, n, 1/c)}
	scale := math.Pow(10, 6*rng.Float64()-4)
	g := scaled(scale, gaussian(rng, m, n))
	st.gA, st.gB = rounded(mul(g, st.b)), rounded(mul(g.T(), st.a))
	switch seed % 3 {
	case 0:
		st.mA, st.mB = mat.NewDense(m, r, nil), mat.NewDense(n, r, nil)
	case 1:
		g = scaled(scale, gaussian(rng, m, n))
		st.mA, st.mB = rounded(mul(g, st.b)), rounded(mul(g.T(), st.a))
	default:
		st.mA, st.mB = rounded(scaled(scale, gaussian(rng, m, r))), rounded(scaled(scale, gaussian(rng, n, r)))
	}
	return st
}

// stepAll takes one step of every state, all of one shape, as one group, and returns how the factors change, decay included.
func stepAll(t testing.TB, cfg Config, states []pairState) (dA, dB []*mat.Dense) {
	t.Helper()
	var values []value
	var grads []*mat.Dense
	for i, st := range states {
		values = append(values, pair(fmt.Sprintf("l%04d", i), st.a, st.b, 1)...)
		grads = append(grads, st.gA, st.gB)
	}
	store, o := newStore(t, values...), mustNew(t, cfg)
	gr := must[[]*Group](t)(o.groups(store, trainable(store.IterVariables())))[0]
	moment := func(slot string, of func(pairState) *mat.Dense) {
		var flat []float32
		for _, st := range states {
			flat = append(flat, oracle.Float32(of(st))...)
		}
		rows, cols := of(states[0]).Dims()
		store.Scope(Scope+"/"+gr.Name()).VariableWithValue(slot, tensors.FromFlatDataAndDimensions(flat, len(states), rows, cols)).SetTrainable(false)
	}
	moment("mA", func(st pairState) *mat.Dense { return st.mA })
	moment("mB", func(st pairState) *mat.Dense { return st.mB })
	newStepper(t, store, o, paths(values)...).step(t, grads...)
	for i, v := range values {
		moved := sub(get(t, store, v.path), v.x)
		if i%2 == 0 {
			dA = append(dA, moved)
		} else {
			dB = append(dB, moved)
		}
	}
	return dA, dB
}

// errorsOf returns the sorted relative differences of the steps of both factors of all states between two optimizers.
func errorsOf(t testing.TB, first, second Config, states []pairState) (errs []float64) {
	t.Helper()
	firstA, firstB := stepAll(t, first, states)
	secondA, secondB := stepAll(t, second, states)
	for i := range states {
		errs = append(errs, max(relative(firstA[i], secondA[i]), relative(firstB[i], secondB[i])))
	}
	slices.Sort(errs)
	return errs
}

// stateShapes are the shapes m, n, r of the random states.
var stateShapes = [][3]int{{24, 16, 1}, {24, 16, 2}, {16, 40, 4}, {40, 40, 8}, {12, 12, 12}, {96, 48, 16}, {20, 33, 5}, {64, 96, 32}, {50, 7, 7}, {128, 30, 3}}

// TestLoRARITECoreIsLoRAMuon: the two rules take the same step from 1,000 random states, of ranks, shapes, balances and
// condition numbers, with moments of all kinds. As trained with, both see the moments through the same polar steps, and differ by
// the ridge of lora-muon's roots and by the rounding of the Gram matrix.
func TestLoRARITECoreIsLoRAMuon(t *testing.T) {
	const tol = 1e-3
	for _, c := range []struct {
		name  string
		exact bool
		conds []float64
	}{
		{"float32", false, []float64{1, 3, 10, 30}},
		{"exact", true, []float64{1, 10, 100, 1e3, 1e4}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var all []float64
			for _, shape := range stateShapes {
				var states []pairState
				for i := range 100 {
					states = append(states, randomState(t, len(all)+i, shape[0], shape[1], shape[2], c.conds[i%len(c.conds)]))
				}
				change := func(c2 *Config) { c2.Exact, c2.WeightDecay, c2.Guard, c2.LearningRate = c.exact, 0, false, 1 }
				all = append(all, errorsOf(t, setting(t, "lora-rite-core", change), setting(t, "lora-muon", change), states)...)
			}
			slices.Sort(all)
			t.Logf("%d states: median %.1e, worst %.1e", len(all), all[len(all)/2], last(all))
			if len(all) != 1000 || !(last(all) <= tol) {
				t.Errorf("%d states, the worst differs by %.1e, want 1000 within %g", len(all), last(all), tol)
			}
		})
	}
	states := []pairState{randomState(t, 1, 40, 40, 8, 10)}
	rate := func(rate float64) func(*Config) {
		return func(c *Config) { c.WeightDecay, c.Guard, c.LearningRate = 0, false, rate }
	}
	if e := errorsOf(t, setting(t, "lora-rite-core", rate(1.002)), setting(t, "lora-muon", rate(1)), states)[0]; !(e > tol) {
		t.Error("a step of another length passes")
	}
	other := states[0]
	other.gA = rounded(mul(other.gA, gaussian(random(3, 3), 8, 8)))
	firstA, _ := stepAll(t, setting(t, "lora-rite-core", rate(1)), states)
	secondA, _ := stepAll(t, setting(t, "lora-muon", rate(1)), []pairState{other})
	if e := relative(firstA[0], secondA[0]); !(e > tol) {
		t.Error("a step of other gradients passes")
	}
}

// TestLoRARITECoreGuard: the guard bounds the same term by the same factor as lora-muon's, decay included.
func TestLoRARITECoreGuard(t *testing.T) {
	const tol = 1e-3
	for _, tiny := range []float64{1, 1e-2, 1e-3, 1e-5} {
		st := randomState(t, 7, 30, 20, 4, 1)
		st.b = rounded(scaled(tiny, st.b))
		change := func(c *Config) { c.LearningRate, c.WeightDecay = 0.3, 0.1 }
		guarded := errorsOf(t, setting(t, "lora-rite-core", change), setting(t, "lora-muon", change), []pairState{st})[0]
		plain := errorsOf(t, setting(t, "lora-rite-core", change, func(c *Config) { c.Guard = false }), setting(t, "lora-muon", change), []pairState{st})[0]
		t.Logf("B times %g: with guard %.1e apart, without %.1e", tiny, guarded, plain)
		if !(guarded <= tol) || (plain > tol) != (tiny < 0.1) {
			t.Errorf("B times %g: with guard %.1e apart, without %.1e", tiny, guarded, plain)
		}
	}
}

// TestLoRARITECoreOracle holds exact steps against Householder QR and SVD.
func TestLoRARITECoreOracle(t *testing.T) {
	const tol = 1e-5 // of the change: the results are stored in float32
	for i, shape := range stateShapes {
		for _, cond := range []float64{1, 30, 1e3} {
			st := randomState(t, i, shape[0], shape[1], shape[2], cond)
			cfg := setting(t, "lora-rite-core", noDecay, func(c *Config) { c.Exact, c.Guard, c.LearningRate, c.Scale = true, false, 1, "none" })
			gotA, gotB := stepAll(t, cfg, []pairState{st})
			worst := func(o oracle.LoRARITECore) float64 {
				_, dA, dB, err := o.Step(oracle.Pair{A: st.a, B: st.b, MomentA: st.mA, MomentB: st.mB}, st.gA, st.gB)
				if err != nil {
					t.Fatal(err)
				}
				return max(relative(gotA[0], dA), relative(gotB[0], dB))
			}
			ref := oracle.LoRARITECore{LearningRate: 1, Momentum: cfg.Momentum, S: 1}
			got := worst(ref)
			ref.LearningRate *= 1 + 3*tol
			t.Logf("%v, condition number %g: %.1e", shape, cond, got)
			if !(got <= tol) || !(worst(ref) > tol) {
				t.Errorf("%v, condition number %g: %.1e from QR, want at most %g; a longer step %.1e", shape, cond, got, tol, worst(ref))
			}
		}
	}
}

// TestInverseCholesky: T is upper triangular with TᵀPT = I; a singular matrix gives a basis of what it has.
func TestInverseCholesky(t *testing.T) {
	invert := func(p *mat.Dense, exact bool) *mat.Dense {
		dtype := Config{Exact: exact}.dtype()
		out, err := CallOnce(check.Backend(t), func(p *Node) *Node {
			return as(Config{Exact: true}.dtype(), (&Step{exact: exact}).inverseCholesky(as(dtype, p)))
		}, tensors.FromFlatDataAndDimensions(p.RawMatrix().Data, 1, p.RawMatrix().Rows, p.RawMatrix().Cols))
		if err != nil {
			t.Fatal(err)
		}
		return mat.NewDense(p.RawMatrix().Rows, p.RawMatrix().Cols, tensors.MustCopyFlatData[float64](out))
	}
	for _, r := range []int{1, 2, 3, 7, 16, 33} {
		for exact, tol := range map[bool]float64{false: 1e-3, true: 1e-11} { // cond² times the unit, here 2e-7·100 and 1e-16·100
			x := must[*mat.Dense](t)(oracle.RandomMatrix(uint64(r), r+5, r, 10))
			p := mul(x.T(), x)
			got := invert(p, exact)
			eye := mat.NewDense(r, r, nil)
			for i := range r {
				eye.Set(i, i, 1)
				for j := range i {
					if got.At(i, j) != 0 {
						t.Errorf("rank %d: element [%d, %d] below the diagonal is %g", r, i, j, got.At(i, j))
					}
				}
			}
			if e := relative(mul(got.T(), mul(p, got)), eye); !(e <= tol) {
				t.Errorf("rank %d, exact %v: TᵀPT is %.1e from I", r, exact, e)
			}
			if e := relative(mul(got.T(), mul(add(p, scaled(0.05, p)), got)), eye); !(e > tol) {
				t.Errorf("rank %d, exact %v: another matrix passes", r, exact)
			}
		}
	}
	// Column 1 is twice column 0: its basis vector is dropped, and those of 0 and 2 are orthonormal.
	x := gaussian(random(1, 1), 9, 3)
	for i := range 9 {
		x.Set(i, 1, 2*x.At(i, 0))
	}
	u := mul(x, invert(mul(x.T(), x), false))
	want := mat.NewDense(3, 3, []float64{1, 0, 0, 0, 0, 0, 0, 0, 1})
	if e := relative(mul(u.T(), u), want); !(e <= 1e-5) {
		t.Errorf("the basis of a singular factor has the Gram matrix %v", mat.Formatted(mul(u.T(), u)))
	}
	if zero := invert(mat.NewDense(4, 4, nil), false); mat.Norm(zero, 2) != 0 {
		t.Errorf("zero has the inverse %v", mat.Formatted(zero))
	}
}

// TestLoRARITECoreFlops: the Cholesky factors of a pair take 4/3 r³ operations each.
func TestLoRARITECoreFlops(t *testing.T) {
	for _, r := range []int{16, 64, 256} {
		cubes := float64(choleskyFlops(r)) / math.Pow(float64(r), 3)
		t.Logf("rank %d: %.3f r³", r, cubes)
		if !(math.Abs(cubes-4.0/3) <= 0.01) {
			t.Errorf("rank %d: %.3f r³ operations", r, cubes)
		}
	}
}
