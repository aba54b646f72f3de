package optimizer

import (
	"math"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/oracle"
)

// spikeTol is how far above the starting loss a guarded run may go.
const spikeTol = 0.05

// guarded runs lora-muon from a start at eta 0.1 and returns its losses.
func guarded(t *testing.T, kind string, guard bool) []float64 {
	t.Helper()
	n := newNet(t, start{rank: 8, s: 1, c: 1, kind: kind})
	losses := n.run(t, mustNew(t, setting(t, "lora-muon", func(c *Config) { c.Guard = guard })), netSteps)
	t.Logf("%s, guard %v: start %.4f, highest %.4f, end %.4f", kind, guard, losses[0], highest(losses), last(losses))
	return losses
}

// TestGuard: no start spikes, and all of them learn.
func TestGuard(t *testing.T) {
	for _, kind := range []string{"zero", "1e-5", "1e-3", "balanced"} {
		losses := guarded(t, kind, true)
		if spike := highest(losses) - losses[0]; !(spike <= spikeTol) {
			t.Errorf("%s: the loss rises %.3f above its start, want at most %g", kind, spike, spikeTol)
		}
		if !(last(losses) < 0.8*losses[0]) {
			t.Errorf("%s: loss from %.4f to %.4f only", kind, losses[0], last(losses))
		}
	}
}

// TestGuardLeavesBalanced: where the guard is not needed it changes nothing; where it is, the plain rule spikes.
func TestGuardLeavesBalanced(t *testing.T) {
	with, without := guarded(t, "balanced", true), guarded(t, "balanced", false)
	if d := math.Abs(last(with) - last(without)); !(d <= lossTol) {
		t.Errorf("balanced: the guard moves the final loss by %.1e, want at most %g", d, lossTol)
	}
	plain := guarded(t, "1e-5", false)
	if spike := highest(plain) - plain[0]; !(spike > spikeTol) {
		t.Errorf("1e-5 without the guard: the loss rises by %.3f only: the tests of the guard have no bite", spike)
	}
}

// TestGuardGrid is TestGuard over rates, ranks up to the full one of a layer, and scales of the pair.
func TestGuardGrid(t *testing.T) {
	check.Long(t)
	for _, eta := range []float64{0.01, 0.1, 0.3} {
		for _, rank := range []int{1, 2, 8, netOut} {
			for _, s := range []float64{1, 2} {
				for kind := range startScale {
					n := newNet(t, start{rank: rank, s: s, c: 1, kind: kind})
					losses := n.run(t, mustNew(t, setting(t, "lora-muon", func(c *Config) { c.LearningRate = eta })), netSteps)
					if spike := highest(losses) - losses[0]; !(spike <= spikeTol) || !(last(losses) < losses[0]) {
						t.Errorf("eta %g, rank %d, s %g, %s: start %.4f, highest %.4f, end %.4f", eta, rank, s, kind, losses[0], highest(losses), last(losses))
					}
				}
			}
		}
	}
}

// TestSpectralBound: at least the spectral norm, at most r^{1/16} times it; zero for zero.
func TestSpectralBound(t *testing.T) {
	bound := func(p *mat.Dense) float64 {
		out, err := CallOnce(check.Backend(t), func(p *Node) *Node { return Reshape(spectralBound(p)) }, batchOfOne(p))
		if err != nil {
			t.Fatal(err)
		}
		return float64(tensors.ToScalar[float32](out))
	}
	for _, r := range []int{1, 2, 8, 32} {
		for _, scale := range []float64{1e-6, 1, 1e6} {
			x := gaussian(random(r, 1), r, r)
			p := rounded(scaled(scale, mul(x, x.T())))
			norm := spectralNormOf(t, p)
			const slack = 1e-5 // rounding
			if got := bound(p) / norm; !(got >= 1-slack && got <= math.Pow(float64(r), 1.0/16)+slack) {
				t.Errorf("rank %d, scale %g: the bound is %.4f times the spectral norm", r, scale, got)
			}
		}
	}
	if got := bound(mat.NewDense(3, 3, nil)); got != 0 {
		t.Errorf("zero has bound %g", got)
	}
}

// TestProductBound: of the inverse roots of a pair it is at least 1/σ_min(A Bᵀ), at most r^{1/16} times that, and the same in every
// gauge; zero for a zero factor.
func TestProductBound(t *testing.T) {
	const m, n, r, slack = 20, 16, 8, 1e-4 // rounding, of roots of condition number 100
	bound := func(a, b *mat.Dense) float64 {
		roots := func(x *mat.Dense) *tensors.Tensor { return batchOfOne(must[*mat.Dense](t)(oracle.GramInvSqrt(x))) }
		out, err := CallOnce(check.Backend(t), func(x, y *Node) *Node { return Reshape(productBound(x, y)) }, roots(a), roots(b))
		if err != nil {
			t.Fatal(err)
		}
		return float64(tensors.ToScalar[float32](out))
	}
	rng := random(3, 9)
	a, b := gaussian(rng, m, r), gaussian(rng, n, r)
	values := must[[]float64](t)(oracle.SingularValues(mul(a, b.T())))
	want := 1 / values[r-1]
	got := bound(a, b)
	if !(got >= want*(1-slack) && got <= want*math.Pow(r, 1.0/16)*(1+slack)) {
		t.Errorf("bound %g for a norm of %g", got, want)
	}
	g := must[*mat.Dense](t)(oracle.RandomMatrix(1, r, r, 10))
	var inverse mat.Dense
	if err := inverse.Inverse(g); err != nil {
		t.Fatal(err)
	}
	if again := bound(mul(a, g), mul(b, inverse.T())); !(math.Abs(again/got-1) <= slack) {
		t.Errorf("bound %g, in another gauge %g", got, again)
	}
	if zero := bound(a, mat.NewDense(n, r, nil)); zero != 0 {
		t.Errorf("bound %g beside a zero factor", zero)
	}
}
