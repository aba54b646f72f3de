package run

import (
	"math"
	"testing"

	"github.com/polargo/polar/data"
	"github.com/polargo/polar/internal/check"
)

// trainSteps returns the trained values after three steps of a run.
func trainSteps(t *testing.T, cfg Config) []float32 {
	t.Helper()
	session := mustPrepare(t, cfg)
	for step := range int64(3) {
		batch, err := session.corpus.Train().Batch(step, cfg.Batch)
		if err != nil {
			t.Fatal(err)
		}
		if step == 0 {
			mustBeUneven(t, batch, cfg.Batch/4)
		}
		if _, err := session.engine.step(batch, cfg.Accumulate); err != nil {
			t.Fatal(err)
		}
	}
	return trained(t, session)
}

func trained(t *testing.T, session *Session) []float32 {
	t.Helper()
	var all []float32
	for _, v := range session.engine.trainable {
		value, err := v.Value()
		if err != nil {
			t.Fatal(err)
		}
		if err := value.ConstFlatData(func(flat any) { all = append(all, flat.([]float32)...) }); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// mustBeUneven fails the test unless the micro-batches of a batch differ in trained tokens: equal ones would hide a mean
// of means.
func mustBeUneven(t *testing.T, b data.Batch, rows int) {
	t.Helper()
	counts := map[float32]bool{}
	for from := 0; from < b.Rows; from += rows {
		var sum float32
		for _, w := range b.Weights[from*b.Length : (from+rows)*b.Length] {
			sum += w
		}
		counts[sum] = true
	}
	if len(counts) < 2 {
		t.Fatalf("all micro-batches have %v trained tokens", counts)
	}
}

// accumulateTol: sums of the same products in another order; the worst of 20 seeds of data was 4e-7.
const accumulateTol = 3e-6

// TestAccumulationDoesNotChangeTheUpdate splits the same rows into 1, 2 and 4 micro-batches with unequal numbers of
// trained tokens. SGD shows the gradient itself, so that nothing hides a wrong scale.
func TestAccumulationDoesNotChangeTheUpdate(t *testing.T) {
	base, text := tinyModel(t), rows(t, 40)
	for name, change := range map[string]func(*Config){
		"sgd":                   func(c *Config) { c.Optimizer, c.LearningRate = "sgd", 0.5 },
		"lora-muon":             func(c *Config) { c.Init = "lora" },
		"adamw all weights":     func(c *Config) { c.Optimizer, c.Rank, c.LearningRate = "adamw", 0, 1e-3 },
		"sgd clipped":           func(c *Config) { c.Optimizer, c.LearningRate, c.ClipNorm = "sgd", 0.5, 1e-3 },
		"recomputed activation": func(c *Config) { c.Optimizer, c.LearningRate, c.ActivationCheckpointing = "sgd", 0.5, true },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := tune(t, base, text)
			cfg.Length, cfg.Packing = 48, false
			change(&cfg)
			whole := trainSteps(t, cfg)
			for _, parts := range []int{2, 4} {
				cfg.Accumulate = parts
				check.Close(t, "weights", trainSteps(t, cfg), whole, accumulateTol)
			}
		})
	}
}

// TestAccumulationBites holds the tolerance against what a mean of the micro-batches' means would do.
func TestAccumulationBites(t *testing.T) {
	cfg := tune(t, tinyModel(t), rows(t, 40))
	cfg.Length, cfg.Packing, cfg.Optimizer, cfg.LearningRate = 48, false, "sgd", 0.5
	whole := trainSteps(t, cfg)
	session := mustPrepare(t, cfg)
	for step := range int64(3) {
		batch, err := session.corpus.Train().Batch(step, cfg.Batch)
		if err != nil {
			t.Fatal(err)
		}
		evenOut(batch)
		if _, err := session.engine.step(batch, 4); err != nil {
			t.Fatal(err)
		}
	}
	if difference := check.Relative(trained(t, session), whole); !(difference > 100*accumulateTol) {
		t.Errorf("a mean of means differs by %.2g, not more than 100 times the tolerance", difference)
	}
}

// evenOut gives every row the same weight in all, as a mean of means does.
func evenOut(b data.Batch) {
	for row := range b.Rows {
		weights := b.Weights[row*b.Length : (row+1)*b.Length]
		var sum float32
		for _, w := range weights {
			sum += w
		}
		for i := range weights {
			weights[i] /= sum
		}
	}
}

// TestStepReportsMeans holds loss and gradient norm against the definition: means over trained tokens.
func TestStepReportsMeans(t *testing.T) {
	cfg := tune(t, tinyModel(t), rows(t, 40))
	cfg.Length, cfg.Packing = 48, false
	cfg.Optimizer, cfg.LearningRate, cfg.Momentum, cfg.WeightDecay = "sgd", 0.25, 0, 0
	session := mustPrepare(t, cfg)
	batch, err := session.corpus.Train().Batch(0, cfg.Batch)
	if err != nil {
		t.Fatal(err)
	}
	before := trained(t, session)
	result, err := session.engine.step(batch, 2)
	if err != nil {
		t.Fatal(err)
	}
	var moved, weight float64
	for i, after := range trained(t, session) {
		moved = math.Hypot(moved, float64(after)-float64(before[i]))
	}
	for _, w := range batch.Weights {
		weight += float64(w)
	}
	rate := cfg.LearningRate // plain gradient descent moves by rate times the gradient
	const tol = 1e-4         // of weights near 1 that move by 1e-2, in float32
	if norm := moved / rate; math.Abs(norm-result.gradientNorm) > tol*norm || result.weight != weight {
		t.Errorf("gradient norm %v over %v tokens, the weights moved as for %v over %v", result.gradientNorm, result.weight, norm, weight)
	}
	if uniform := math.Log(float64(len(alphabet))); math.Abs(result.loss-uniform) > 0.2 {
		t.Errorf("loss %v of an untrained model, want about ln %d = %v a token", result.loss, len(alphabet), uniform)
	}
}

// TestStepRefusesOnlyMaskedTokens: a batch without loss has no gradient to follow.
func TestStepRefusesOnlyMaskedTokens(t *testing.T) {
	session := mustPrepare(t, tune(t, tinyModel(t), rows(t, 40)))
	batch, err := session.corpus.Train().Batch(0, 4)
	if err != nil {
		t.Fatal(err)
	}
	clear(batch.Weights)
	_, err = session.engine.step(batch, 1)
	mustSay(t, err, "every label is masked")
}
