package optimizer

import (
	"math"
	"strings"
	"testing"

	mlmodel "github.com/gomlx/gomlx/ml/model"
	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/param"
)

// TestSplitDecay: A Bᵀ ← (1 - lambda·eta) A Bᵀ + ΔA Bᵀ + A ΔBᵀ up to O(eta²), the increments being those of a step
// without decay. Decaying each factor by 1 - lambda·eta, which decays the product twice, leaves O(eta).
func TestSplitDecay(t *testing.T) {
	const m, n, r = 30, 20, 5
	rng := random(5, 5)
	a, b, g := gaussian(rng, m, r), gaussian(rng, n, r), gaussian(rng, m, n)
	values, grads := pair("layer", a, b, 1), []*mat.Dense{mul(g, b), mul(g.T(), a)}
	// rest returns what is left of the new product, with the decay split and with each factor decayed in full.
	rest := func(eta float64) (split, full float64) {
		cfg := setting(t, "lora-muon", func(c *Config) { c.LearningRate, c.WeightDecay = eta, 0.5 })
		bare := cfg
		bare.WeightDecay = 0
		decayed, plain := after(t, cfg, values, grads), after(t, bare, values, grads)
		dA, dB := sub(plain[0], a), sub(plain[1], b)
		keep := 1 - cfg.WeightDecay*eta
		want := add(scaled(keep, mul(a, b.T())), add(mul(dA, b.T()), mul(a, dB.T())))
		twice := mul(add(scaled(keep, a), dA), add(scaled(keep, b), dB).T())
		return mat.Norm(sub(mul(decayed[0], decayed[1].T()), want), 2), mat.Norm(sub(twice, want), 2)
	}
	split, full := rest(0.2)
	halfSplit, halfFull := rest(0.1)
	t.Logf("eta 0.2 to 0.1: split %.2e to %.2e, in full %.2e to %.2e", split, halfSplit, full, halfFull)
	if order := math.Log2(split / halfSplit); !(order > 1.8) {
		t.Errorf("the rest is of order eta^%.2f, want 2", order)
	}
	if order := math.Log2(full / halfFull); !(order < 1.2) {
		t.Errorf("the rest of a full decay of each factor is of order eta^%.2f: the test has no bite", order)
	}
}

// TestDecayRefused: lambda·eta >= 1 is refused before anything is built, wherever a rate can come from.
func TestDecayRefused(t *testing.T) {
	for _, info := range Known() {
		for product, bad := range map[float64]bool{0.99: false, 1: true, 2: true} {
			cfg := setting(t, info.Name, func(c *Config) { c.LearningRate, c.WeightDecay = 0.5, product/0.5 })
			_, err := New(cfg)
			if bad && (err == nil || !strings.Contains(err.Error(), "weight decay") || !strings.Contains(err.Error(), "must stay below 1")) {
				t.Errorf("%s: lambda·eta = %g: error %v", info.Name, product, err)
			}
			if !bad && err != nil {
				t.Errorf("%s: lambda·eta = %g: %v", info.Name, product, err)
			}
		}
		o := mustNew(t, setting(t, info.Name, func(c *Config) { c.LearningRate, c.WeightDecay = 0.5, 1 }))
		store := mlmodel.NewStore()
		if err := o.SetLearningRate(store, 1); err == nil || o.LearningRate(store) != 0.5 {
			t.Errorf("%s: a learning rate of 1 at decay 1: error %v, rate %g", info.Name, err, o.LearningRate(store))
		}
	}
	ratio := setting(t, "adamw", func(c *Config) { c.LearningRate, c.WeightDecay, c.LoRAPlusRatio = 0.1, 1, 10 })
	if _, err := New(ratio); err == nil {
		t.Error("adamw: lambda·eta = 1 on the side of the LoRA+ ratio was accepted")
	}
	fallback := setting(t, "lora-muon", func(c *Config) { c.Fallback.LearningRate, c.Fallback.WeightDecay = 0.5, 2 })
	if _, err := New(fallback); err == nil {
		t.Error("lora-muon: lambda·eta = 1 in the fallback was accepted")
	}
}

// TestDecayAlone: with zero gradients a weight is multiplied by exactly 1 - lambda·eta, vectors of AdamW's by one.
func TestDecayAlone(t *testing.T) {
	const tol = 5e-7 // products of two rounded factors
	for _, info := range Known() {
		cfg := setting(t, info.Name, func(c *Config) { c.LearningRate, c.WeightDecay = 0.5, 0.5 })
		values := mixture(info.Name)
		got := after(t, cfg, values, gradients(values, 0))
		for i, v := range values {
			keep := 0.75
			switch {
			case v.spec.Role == param.Pair && !decaysFactors[info.Name]:
				keep = math.Sqrt(0.75) // of each factor, so that A Bᵀ decays once
			case isFallbackRole(v.spec.Role) && cfg.Fallback.LearningRate > 0:
				keep = 1 // the fallback does not decay by default
			case v.spec.Role == param.Vector && info.Name == "adamw":
				keep = 1
			}
			if e := relative(got[i], scaled(keep, v.x)); !(e <= tol) {
				t.Errorf("%s: %s is off %.4f times itself by %.1e", info.Name, v.path, keep, e)
			}
			if e := relative(got[i], scaled(keep*(1-1e-5), v.x)); !(e > tol) {
				t.Errorf("%s: %s: another decay passes", info.Name, v.path)
			}
		}
	}
}
