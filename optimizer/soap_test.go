package optimizer

import (
	"fmt"
	"math"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/oracle"
)

// offDiagonal returns the norm of P L Pᵀ off the diagonal, relative to that of L, for the rows P.
func offDiagonal(basis, p *mat.Dense) float64 {
	m := mul(mul(basis, p), basis.T())
	total := mat.Norm(m, 2)
	for i := range m.RawMatrix().Rows {
		m.Set(i, i, 0)
	}
	return mat.Norm(m, 2) / total
}

// turning returns a function that takes the given number of steps of a basis, from I, towards the eigenvectors of p.
func turning(t *testing.T, p *mat.Dense, step func(basis, p *Node) *Node) func(steps int) *mat.Dense {
	t.Helper()
	n, _ := p.Dims()
	exec, err := NewExec(check.Backend(t), step)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(exec.Finalize)
	eye := mat.NewDense(n, n, nil)
	for i := range n {
		eye.Set(i, i, 1)
	}
	basis, fixed := batchOfOne(eye), batchOfOne(p)
	return func(steps int) *mat.Dense {
		for range steps {
			out, err := exec.Call(basis, fixed)
			if err != nil {
				t.Fatal(err)
			}
			basis = out[0]
		}
		return must[*mat.Dense](t)(oracle.FromFloat32(tensors.MustCopyFlatData[float32](basis), n, n))
	}
}

// spectra are eigenvalues of test matrices: apart, in the logarithm apart, with a null space, random.
var spectra = map[string]func(i, n int) float64{
	"power":     func(i, n int) float64 { return math.Pow(float64(i+1), -1.5) },
	"geometric": func(i, n int) float64 { return math.Pow(10, -4*float64(i)/float64(n)) },
	"low rank": func(i, n int) float64 {
		if i >= n/4 {
			return 0
		}
		return math.Pow(10, -2*float64(i)/float64(n))
	},
	"close": func(i, n int) float64 { return 1 + float64(i)/float64(n) },
}

// TestEigenbasisConverges: turns from I end in the eigenvectors, where P L Pᵀ is diagonal, and keep the rows orthonormal; a
// polar factor of P L, orthonormal iteration without a triangular factor, never gets there.
func TestEigenbasisConverges(t *testing.T) {
	const (
		tol        = 1e-5 // float32's rounding of P L Pᵀ, and angles between eigenvalues below eigenbasisNoise; the worst was 2.4e-7
		orthogonal = 5e-5 // of ‖P Pᵀ - I‖_F: the two Newton-Schulz steps of the last turn and rounding; 1.8e-6
		turns      = 60
	)
	for name, spectrum := range spectra {
		for _, n := range []int{5, 64} {
			values := make([]float64, n)
			for i := range values {
				values[i] = spectrum(i, n)
			}
			p := rounded(must[*mat.Dense](t)(oracle.WithEigenvalues(uint64(n), values)))
			advance := turning(t, p, func(basis, p *Node) *Node { return turn(basis, p, false) })
			start := offDiagonal(advance(1), p)
			half, end := offDiagonal(advance(19), p), advance(turns-20)
			product := mul(end, end.T())
			for i := range n {
				product.Set(i, i, product.At(i, i)-1)
			}
			off, drift := offDiagonal(end, p), mat.Norm(product, 2)
			polar := turning(t, p, func(basis, p *Node) *Node { return (&Step{}).Msign(times(basis, p)) })(turns)
			t.Logf("%s, n = %d: off the diagonal %.1e after 1 turn, %.1e after 20, %.1e after %d; rows orthonormal to %.1e; "+
				"polar factors %.1e", name, n, start, half, off, turns, drift, offDiagonal(polar, p))
			if !(off <= tol) || !(drift <= orthogonal) {
				t.Errorf("%s, n = %d: off the diagonal %.1e, want at most %g; orthonormal to %.1e", name, n, off, tol, drift)
			}
			if !(offDiagonal(polar, p) > 1e3*tol) {
				t.Errorf("%s, n = %d: polar factors diagonalise too", name, n)
			}
		}
	}
}

// TestJacobiTangents: for two dimensions one turn is exact, two at 45 degrees, where ‖tan θ‖ is overestimated by 2^{1/8}; nothing
// turns where there is nothing to turn.
func TestJacobiTangents(t *testing.T) {
	const tol = 2e-6 // eigenbasisNoise
	for _, c := range []struct {
		a, b, off float64
		turns     int
	}{{2, 1, 0.3, 1}, {1, 2, -0.3, 1}, {1, 1, 0.5, 2}, {1, 1, -0.5, 2}, {3, 0, 1e-3, 1}, {1, 1, 0, 1}, {0, 0, 0, 1}} {
		p := mat.NewDense(2, 2, []float64{c.a, c.off, c.off, c.b})
		basis := turning(t, p, func(basis, p *Node) *Node { return turn(basis, p, false) })(c.turns)
		left := mul(mul(basis, p), basis.T()).At(0, 1)
		if !(math.Abs(left) <= tol*mat.Norm(p, 2)) {
			t.Errorf("%v: %.1e off the diagonal after %d turns", c, left, c.turns)
		}
		if c.off == 0 && basis.At(0, 1) != 0 {
			t.Errorf("%v: turned by %g", c, basis.At(0, 1))
		}
	}
}

// separated returns gradients whose averages L and R have eigenvalues apart, of which SOAP's bases come to be the eigenvectors.
func separated(t *testing.T, m, n, count int) []*mat.Dense {
	t.Helper()
	rng := random(m, n)
	u, v := orthonormal(t, rng, m, m), orthonormal(t, rng, n, n)
	var out []*mat.Dense
	for range count {
		z := gaussian(rng, m, n)
		z.Apply(func(i, j int, x float64) float64 { return x * math.Pow(0.6, float64(i+j)) }, z)
		out = append(out, rounded(mul(mul(u, z), v.T())))
	}
	return out
}

// TestSOAPOracle: where the eigenvalues are apart the steps come to agree with those in the true eigenvectors.
func TestSOAPOracle(t *testing.T) {
	// A turn leaves the square of what each step of L and R, by 1-beta2, turns their eigenvectors by; what the first turns put into
	// the second moments has faded to 0.99⁸⁰⁰ = 3e-4. The worst was 6e-4.
	const steps, tol = 800, 2e-3
	for _, shape := range [][2]int{{8, 6}, {5, 8}} {
		for _, limit := range []int{0, 6} {
			for _, exact := range []bool{false, true} {
				if exact && limit > 0 {
					continue
				}
				m, n := shape[0], shape[1]
				grads := separated(t, m, n, steps)
				cfg := setting(t, "soap", noDecay, func(c *Config) {
					c.LearningRate, c.Exact, c.MaxPreconditioned, c.Epsilon, c.Beta2 = 1, exact, limit, 1e-4, 0.99
				})
				store := newStore(t, dense("/w", mat.NewDense(m, n, nil)))
				s := newStepper(t, store, mustNew(t, cfg), "/w")
				left, right := preconditioned(m, n, limit)
				adam := oracle.Adam{Beta1: cfg.Momentum, Beta2: cfg.Beta2, Epsilon: cfg.Epsilon}
				o := oracle.SOAP{Adam: adam, Left: left, Right: right}
				plain, one := o, o
				plain.Left, plain.Right = false, false
				one.Beta2 = 0.985
				var states [3]oracle.SOAPState
				var first, last, worstPlain float64
				name := fmt.Sprintf("%v, limit %d, exact %v", shape, limit, exact)
				for i, g := range grads {
					before := get(t, store, "/w")
					s.step(t, g)
					step := sub(get(t, store, "/w"), before)
					var off [3]float64
					for j, o := range []oracle.SOAP{o, plain, one} {
						direction, next, err := o.Direction(states[j], g, i+1)
						if err != nil {
							t.Fatal(err)
						}
						states[j], off[j] = next, relative(step, scaled(-1, direction))
					}
					if i == 5 {
						first = off[0]
					}
					if i >= steps-10 {
						last, worstPlain = max(last, off[0]), max(worstPlain, off[1])
						if !(off[2] > 2*off[0]) {
							t.Errorf("%s: %.1e away with another beta2, %.1e with this", name, off[2], off[0])
						}
					}
				}
				t.Logf("%s: from the step in the true eigenvectors %.1e at first, %.1e at last; adamw's %.1e", name, first, last, worstPlain)
				if !(last <= tol) || !(worstPlain > 10*tol) {
					t.Errorf("%s: %.1e from the step in the true eigenvectors, want at most %g; adamw's is %.1e from it",
						name, last, tol, worstPlain)
				}
			}
		}
	}
}

// TestSOAPPairs: a factor of a pair moves as the same matrix does when it is dense, but for the split decay.
func TestSOAPPairs(t *testing.T) {
	const tol = 1e-5 // the same products in batches of other sizes, through turns that square their differences away
	rng := random(2, 41)
	factors := pair("l", gaussian(rng, 12, 4), gaussian(rng, 9, 4), 2)
	matrices := []value{dense("/a", factors[0].x), dense("/b", factors[1].x)}
	grads := [][]*mat.Dense{gradients(factors, 1, 1), gradients(factors, 1, 2), gradients(factors, 1, 3)}
	free, decayed := setting(t, "soap", noDecay), setting(t, "soap", func(c *Config) { c.LearningRate, c.WeightDecay = 0.5, 1 })
	free.LearningRate = 0.5
	got, want := after(t, free, factors, grads...), after(t, free, matrices, grads...)
	split, whole := lastStep(t, decayed, factors, grads, math.Sqrt(0.5)), lastStep(t, free, matrices, grads, 1)
	for i := range got {
		if e := relative(got[i], want[i]); !(e <= tol) {
			t.Errorf("factor %d is %.1e from the dense matrix", i, e)
		}
		if e := relative(split[i], whole[i]); !(e <= tol) {
			t.Errorf("factor %d with decay is %.1e from the step without", i, e)
		}
	}
}
