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
	"github.com/polargo/polar/matfn"
)

// stepTol bounds one step against the float64 SVD oracle, relative to the oracle's ΔA and ΔB in the Frobenius norm. The 8
// polar steps leave singular values in [0.999, 1.0004], on average 5e-4 from one; the worst here was 6.0e-4.
const stepTol = 2e-3

// oracleOf returns the exact step that a configuration asks for.
func oracleOf(cfg Config, m, n int, s float64) oracle.LoRAMuon {
	return oracle.LoRAMuon{LearningRate: cfg.LearningRate, Momentum: cfg.Momentum, WeightDecay: cfg.WeightDecay, S: s,
		Scale: widthScale(cfg.Scale, m, n)}
}

// increments returns ΔA and ΔB of a step that moved a pair from before to after: A ← kA + ΔA/k.
func increments(cfg Config, before, after []*mat.Dense) (dA, dB *mat.Dense) {
	k := math.Sqrt(1 - cfg.WeightDecay*cfg.LearningRate)
	return scaled(k, sub(after[0], scaled(k, before[0]))), scaled(k, sub(after[1], scaled(k, before[1])))
}

// TestLoRAMuonOracle takes two steps from different gradients and holds the second, which uses both, against the oracle.
func TestLoRAMuonOracle(t *testing.T) {
	worst := 0.0
	for _, rank := range []int{1, 2, 8, 32} {
		for _, shape := range [][2]int{{96, 40}, {40, 96}, {48, 48}} {
			for _, imbalance := range []float64{1, 99} {
				t.Run(fmt.Sprintf("r%d/%dx%d/%g:1", rank, shape[0], shape[1], imbalance), func(t *testing.T) {
					worst = max(worst, oracleCase(t, rank, shape[0], shape[1], imbalance))
				})
			}
		}
	}
	t.Logf("worst relative error %.2e", worst)
}

func oracleCase(t *testing.T, rank, m, n int, imbalance float64) float64 {
	const s = 2.0
	rng := random(rank, m)
	a := rounded(scaled(math.Sqrt(imbalance), gaussian(rng, m, rank)))
	b := rounded(scaled(1/math.Sqrt(imbalance), gaussian(rng, n, rank)))
	var grads [][]*mat.Dense
	for range 2 {
		grad := gaussian(rng, m, n)
		grads = append(grads, []*mat.Dense{rounded(scaled(s, mul(grad, b))), rounded(scaled(s, mul(grad.T(), a)))})
	}
	cfg := setting(t, "lora-muon", func(c *Config) { c.WeightDecay = 1 }) // k = 0.95
	values := pair("layer", a, b, s)
	first, second := after(t, cfg, values, grads[:1]...), after(t, cfg, values, grads...)
	dA, dB := increments(cfg, first, second)
	worst := func(o oracle.LoRAMuon) float64 {
		moments := oracle.Pair{A: first[0], B: first[1],
			MomentA: scaled(1-o.Momentum, grads[0][0]), MomentB: scaled(1-o.Momentum, grads[0][1])}
		_, wantA, wantB, err := o.Step(moments, grads[1][0], grads[1][1])
		if err != nil {
			t.Fatal(err)
		}
		return max(relative(dA, wantA), relative(dB, wantB))
	}
	want := oracleOf(cfg, m, n, s)
	got := worst(want)
	if !(got <= stepTol) {
		t.Errorf("relative error %.2e, want at most %g", got, stepTol)
	}
	for bite, change := range map[string]func(*oracle.LoRAMuon){
		"momentum": func(o *oracle.LoRAMuon) { o.Momentum -= 0.1 }, "learning rate": func(o *oracle.LoRAMuon) { o.LearningRate *= 1.005 },
		"scale": func(o *oracle.LoRAMuon) { o.Scale *= 0.995 }, "s": func(o *oracle.LoRAMuon) { o.S *= 1.005 },
	} {
		changed := want
		change(&changed)
		if !(worst(changed) > stepTol) {
			t.Errorf("a step of another %s passes", bite)
		}
	}
	return got
}

// TestSharpen: the extra step removes the bias of the ridge, which takes up stepTol on an ordinary factor of rank 32.
func TestSharpen(t *testing.T) {
	const tol = 1e-4 // rounding of the Gram matrix, 6e-8·cond² = 2e-5 in its smallest eigenvalue; here 6e-6
	x := gaussian(random(1, 1), 40, 32)
	want := must[*mat.Dense](t)(oracle.GramInvSqrt(x))
	root := func(build func(gram *Node) *Node) *mat.Dense {
		gram := batchOfOne(rounded(mul(x.T(), x)))
		out, err := CallOnce(check.Backend(t), build, gram)
		if err != nil {
			t.Fatal(err)
		}
		return must[*mat.Dense](t)(oracle.FromFloat32(tensors.MustCopyFlatData[float32](out), 32, 32))
	}
	plain := relative(root(func(g *Node) *Node { return matfn.InvSqrt(g) }), want)
	sharp := relative(root(func(gram *Node) *Node { return sharpen(matfn.InvSqrt(gram), gram) }), want)
	t.Logf("relative error %.2e, sharpened %.2e", plain, sharp)
	if !(sharp <= tol) || !(plain > 10*tol) {
		t.Errorf("relative error %.2e, sharpened %.2e; want above %g and at most %g", plain, sharp, 10*tol, tol)
	}
}

// batchOfOne returns x as a float32 batch of one matrix.
func batchOfOne(x *mat.Dense) *tensors.Tensor {
	m, n := x.Dims()
	return tensors.FromFlatDataAndDimensions(oracle.Float32(x), 1, m, n)
}

// TestLoRAMuonFlops is the formula of the doc comment, at the 8 and 7 steps of the defaults.
func TestLoRAMuonFlops(t *testing.T) {
	const m, n, r = 576, 1536, 16
	if got, want := LoRAMuonFlops(m, n, r), int64(38*(m+n)*r*r+156*r*r*r); got != want {
		t.Errorf("got %d operations, want %d", got, want)
	}
	if msign := matfn.MsignFlops(m, r, 8) + matfn.MsignFlops(n, r, 8); msign != 4*8*(m+n)*r*r+2*2*8*r*r*r {
		t.Errorf("msign's own count is %d", msign)
	}
}
