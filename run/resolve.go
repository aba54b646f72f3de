package run

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/polargo/polar/optimizer"
)

// resolve replaces what was left to choose, as far as the settings alone decide it.
func (c Config) resolve(now time.Time) Config {
	scratch := c.Lab != nil
	if scratch {
		c.Rank = c.Lab.PairRank
	}
	if c.Alpha == 0 && c.Rank > 0 {
		c.Alpha = float64(c.Rank)
		if c.RSLoRA {
			c.Alpha = math.Sqrt(float64(c.Rank))
		}
	}
	if usual, err := optimizer.Default(c.Optimizer); err == nil {
		if c.Momentum < 0 {
			c.Momentum = usual.Momentum
		}
		if c.Beta2 < 0 && c.described().Beta2 {
			if c.Beta2 = usual.Beta2; scratch && c.Optimizer == "adamw" {
				c.Beta2 = 0.95
			}
		}
		if c.MaxPreconditioned < 0 {
			c.MaxPreconditioned = usual.MaxPreconditioned
		}
	}
	if c.LoRAPlusRatio == 0 {
		c.LoRAPlusRatio = 1
	}
	if c.Export == "" {
		c.Export = "best"
	}
	if c.SpectralBudgetMode == "" {
		c.SpectralBudgetMode = optimizer.BudgetHardcap
	}
	if c.SpectralBudgetDecay == 0 {
		c.SpectralBudgetDecay = optimizer.DefaultBudgetDecay
	}
	c.Manifold = c.Manifold.Resolved()
	c.chooseRates()
	if c.Out == "" {
		c.Out = filepath.Join("runs", c.name()+"-"+now.Format("20060102-150405"))
	}
	return c
}

// described says what the optimizer takes and reads; nothing for a name that check will refuse.
func (c Config) described() optimizer.Info {
	info, err := optimizer.Describe(c.Optimizer)
	if err != nil {
		return optimizer.Info{Name: c.Optimizer}
	}
	return info
}

// chooseRates fills in the learning rates that were left to choose.
func (c *Config) chooseRates() {
	scratch := c.Lab != nil
	info := c.described()
	if c.LearningRate == 0 {
		if c.LearningRate = info.FullRate; !scratch && c.Rank > 0 {
			c.LearningRate = info.AdapterRate
		}
	}
	switch {
	case c.FallbackLearningRate != 0:
	case scratch && c.Optimizer != "sgd":
		c.FallbackLearningRate = 1e-2 // setting M's
	case !info.FallbackOptional:
		c.FallbackLearningRate = 1e-4
	}
}

// name is a short name of the run: the model's last path element, or "lab".
func (c Config) name() string {
	if c.Lab != nil {
		return "lab"
	}
	base := filepath.Base(strings.TrimRight(c.Model, "/\\"))
	return strings.TrimSuffix(base, filepath.Ext(base))
}

// check reports every setting that cannot work, in one error.
func (c Config) check() error {
	var problems []error
	bad := func(failed bool, format string, args ...any) {
		if failed {
			problems = append(problems, fmt.Errorf(format, args...))
		}
	}
	bad(c.Lab == nil && c.Model == "", "no model: give --model a folder, a .gguf file or a hub name")
	bad(c.Data == "", "no data: give --data a file, a folder or 'shakespeare'")
	bad(c.ValidationFraction < 0 || c.ValidationFraction >= 1, "validation-fraction %v is not in [0, 1)", c.ValidationFraction)
	for _, count := range []struct {
		key        string
		value, min int
	}{
		{"length", c.Length, 0}, {"rank", c.Rank, 0}, {"steps", c.Steps, 0}, {"batch", c.Batch, 1}, {"accumulate", c.Accumulate, 1},
		{"eval-every", c.EvalEvery, 0}, {"eval-batches", c.EvalBatches, 0}, {"save-every", c.SaveEvery, 0}, {"sample-every", c.SampleEvery, 0},
		{"sample-tokens", c.SampleTokens, 0}, {"patience", c.Patience, 0}, {"warmup-steps", c.WarmupSteps, 0}, {"rebalance-every", c.RebalanceEvery, 0},
		{"verify", c.Verify, 0},
	} {
		bad(count.value < count.min, "%s %d is below %d", count.key, count.value, count.min)
	}
	bad(c.Accumulate > 0 && c.Batch%c.Accumulate != 0, "batch %d cannot be split into %d equal micro-batches (accumulate)", c.Batch, c.Accumulate)
	bad(c.Steps == 0 && (c.Epochs <= 0 || math.IsInf(c.Epochs, 0) || math.IsNaN(c.Epochs)), "epochs %v must be positive when steps is 0", c.Epochs)
	bad(c.WarmupFraction < 0 || c.WarmupFraction > 1, "warmup-fraction %v is not in [0, 1]", c.WarmupFraction)
	info, known := optimizer.Describe(c.Optimizer)
	bad(known == nil && !info.Pairs && c.Rank > 0, "%s trains dense weights, not adapters: use rank 0, or one of %s",
		c.Optimizer, strings.Join(optimizer.Names(func(info optimizer.Info) bool { return info.Pairs }), ", "))
	bad(!(c.InitScale >= 0) || math.IsInf(c.InitScale, 0), "init-scale %v is not a positive number, or 0 to choose", c.InitScale)
	bad(c.InitScale > 0 && (c.Rank == 0 || c.Init != "balanced" && c.Init != "gradient"), "init-scale is only for adapters with init balanced or gradient")
	bad(known == nil && c.Beta2 >= 0 && !info.Beta2, "beta2 %v is only for %s", c.Beta2,
		strings.Join(optimizer.Names(func(info optimizer.Info) bool { return info.Beta2 }), ", "))
	bad(known == nil && len(c.Protect) > 0 && !info.Protects, "protect is only for %s: %s would move the directions of earlier adapters",
		strings.Join(optimizer.Names(func(info optimizer.Info) bool { return info.Protects }), ", "), c.Optimizer)
	bad(len(c.Protect) > 0 && (c.Rank == 0 || c.Lab != nil), "protect is only for adapters: the rank is 0 or the model starts from scratch")
	bad(len(c.Protect) > 0 && c.SpectralBudget > 0, "protect and spectral-budget exclude each other: a budget would move the protected directions")
	bad(c.Export != "best" && c.Export != "last", "export %q is unknown: best or last", c.Export)
	bad(c.Verify > 0 && !c.Resume, "verify needs --resume: it replays steps of a run that exists")
	bad(c.Patience > 0 && c.ValidationFraction == 0 && c.ValidationData == "", "patience needs validation data, and validation-fraction is 0")
	problems = append(problems, c.checkPairs()...)
	if c.Lab != nil {
		problems = append(problems, c.Lab.check()...)
	}
	if settings, err := c.optimizer(); err != nil {
		problems = append(problems, err)
	} else {
		settings.Schedule = optimizer.Schedule{} // its steps are known when the data are
		problems = append(problems, settings.Validate())
	}
	return errors.Join(problems...)
}

// optimizer returns the optimizer's settings.
func (c Config) optimizer() (optimizer.Config, error) {
	settings, err := optimizer.Default(c.Optimizer)
	if err != nil {
		return settings, err
	}
	settings.LearningRate, settings.WeightDecay, settings.Momentum = c.LearningRate, c.WeightDecay, c.Momentum
	settings.Nesterov, settings.ClipNorm, settings.Scale = c.Nesterov, c.ClipNorm, c.WidthScale
	settings.LoRAPlusRatio, settings.RebalanceEvery, settings.MaxPreconditioned = c.LoRAPlusRatio, c.RebalanceEvery, c.MaxPreconditioned
	settings.Guard, settings.Manifold = c.Guard, c.Manifold
	settings.SpectralBudget, settings.SpectralBudgetMode, settings.SpectralBudgetDecay = c.SpectralBudget, c.SpectralBudgetMode, c.SpectralBudgetDecay
	if c.described().Beta2 {
		settings.Beta2 = c.Beta2
	}
	if settings.Fallback.LearningRate = c.FallbackLearningRate; settings.Fallback.Epsilon == 0 { // sgd has none of its own
		settings.Fallback.Beta1, settings.Fallback.Beta2, settings.Fallback.Epsilon = 0.9, 0.95, 1e-8
	}
	settings.Schedule = optimizer.Schedule{
		Kind: c.Schedule, Steps: c.Steps, WarmupSteps: c.WarmupSteps, DecayFraction: c.DecayFraction,
	}
	return settings, nil
}

func (l *Lab) check() []error {
	var problems []error
	if l.Layers < 1 || l.Hidden < 1 || l.Heads < 1 || l.Hidden%max(l.Heads, 1) != 0 {
		problems = append(problems, fmt.Errorf("layers %d, hidden %d, heads %d: each must be positive and heads must divide hidden", l.Layers, l.Hidden, l.Heads))
	}
	if l.PairRank < 0 || l.PairRank > l.Hidden {
		problems = append(problems, fmt.Errorf("pair-rank %d is not in [0, hidden %d]", l.PairRank, l.Hidden))
	}
	if !(l.PairScale > 0) || math.IsInf(l.PairScale, 0) {
		problems = append(problems, fmt.Errorf("pair-scale %v must be positive", l.PairScale))
	}
	return problems
}

// checkFolder refuses to start a new run in a folder that holds one, and to resume where there is none.
func (c Config) checkFolder() error {
	_, err := os.Stat(filepath.Join(c.Out, runFile))
	switch {
	case err == nil && !c.Resume:
		return fmt.Errorf("%s already holds a run: use --resume to continue it, or another --out", c.Out)
	case err != nil && c.Resume:
		return fmt.Errorf("nothing to resume: %s holds no run (its %s is missing)", c.Out, runFile)
	}
	return nil
}
