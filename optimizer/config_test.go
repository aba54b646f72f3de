package optimizer

import (
	"math"
	"reflect"
	"strings"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/param"
)

func TestUnknownName(t *testing.T) {
	known := strings.Join(Names(nil), ", ")
	for name, want := range map[string]string{
		"moun": `unknown optimizer "moun"; known: ` + known + `; did you mean "muon"?`,
		"Adam": `did you mean "adamw"?`, "loramuon": `did you mean "lora-muon"?`, "": `unknown optimizer ""; known: ` + known,
	} {
		if _, err := Default(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Default(%q): %v, want %s", name, err, want)
		}
		if _, err := New(Config{Name: name}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New(%q): %v, want %s", name, err, want)
		}
	}
	for _, info := range Known() {
		if info.Summary == "" || mustNew(t, setting(t, info.Name)).Config().Name != info.Name {
			t.Errorf("%s has no summary or another name", info.Name)
		}
	}
}

// TestConfigErrors: settings that cannot work, or that the optimizer would ignore, are refused and named.
func TestConfigErrors(t *testing.T) {
	for _, c := range []struct {
		optimizer, want string
		change          func(*Config)
	}{
		{"sgd", "learning rate must be positive", func(c *Config) { c.LearningRate = 0 }},
		{"sgd", "learning rate must be positive", func(c *Config) { c.LearningRate = math.NaN() }},
		{"muon", "weight decay must be 0 or more", func(c *Config) { c.WeightDecay = -1 }},
		{"muon", "momentum must be in [0, 1)", func(c *Config) { c.Momentum = 1 }},
		{"muon", "clip norm must be 0 or more", func(c *Config) { c.ClipNorm = math.Inf(1) }},
		{"adamw", "beta2 must be in [0, 1)", func(c *Config) { c.Beta2 = 1 }},
		{"adamw", "epsilon must be positive", func(c *Config) { c.Epsilon = 0 }},
		{"adamw", "LoRA+ ratio must be positive", func(c *Config) { c.LoRAPlusRatio = 0 }},
		{"adamw", "nesterov is not available", func(c *Config) { c.Nesterov = true }},
		{"adamw", `scale "jordan" is only for the msign family`, func(c *Config) { c.Scale = "jordan" }},
		{"lora-muon", `unknown scale "rsm"; known: rms, none, jordan, moonlight`, func(c *Config) { c.Scale = "rsm" }},
		{"lora-muon", "the LoRA+ ratio is only for adamw", func(c *Config) { c.LoRAPlusRatio = 2 }},
		{"lora-muon", "rebalance every must be 0 or more", func(c *Config) { c.RebalanceEvery = -1 }},
		{"lora-muon", "rebalance exponent must be in (0, 1]", func(c *Config) { c.RebalanceEvery, c.RebalanceExponent = 1, 2 }},
		{"muon", "rebalancing is only for lora-muon", func(c *Config) { c.RebalanceEvery = 1 }},
		{"muon", "fallback learning rate must be positive", func(c *Config) { c.Fallback.LearningRate = 0 }},
		{"muon", "fallback beta1", func(c *Config) { c.Fallback.Beta1 = 1 }},
		{"muon", "fallback beta2", func(c *Config) { c.Fallback.Beta2 = -1 }},
		{"muon", "fallback epsilon", func(c *Config) { c.Fallback.Epsilon = 0 }},
		{"muon", "fallback weight decay", func(c *Config) { c.Fallback.WeightDecay = -1 }},
	} {
		_, err := New(setting(t, c.optimizer, c.change))
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "optimizer "+c.optimizer+": ") {
			t.Errorf("%s: error %v, want one with %q", c.optimizer, err, c.want)
		}
	}
	both := setting(t, "muon", func(c *Config) { c.LearningRate, c.Momentum = -1, 2 })
	if _, err := New(both); err == nil || !strings.Contains(err.Error(), "learning rate") || !strings.Contains(err.Error(), "momentum") {
		t.Errorf("error %v, want one that names both settings", err)
	}
}

// TestEverySettingCounts: each field of the configuration changes what some optimizer does.
func TestEverySettingCounts(t *testing.T) {
	changes := map[string]func(*Config){
		"LearningRate": func(c *Config) { c.LearningRate *= 0.5 }, "WeightDecay": func(c *Config) { c.WeightDecay = 0.3 },
		"Momentum": func(c *Config) { c.Momentum = 0.5 }, "Beta2": func(c *Config) { c.Beta2 = 0.5 }, "Epsilon": func(c *Config) { c.Epsilon = 0.1 },
		"Nesterov": func(c *Config) { c.Nesterov = true }, "Scale": func(c *Config) { c.Scale = "moonlight" },
		"Guard": func(c *Config) { c.Guard = false }, "RebalanceEvery": func(c *Config) { c.RebalanceEvery = 1 },
		"RebalanceExponent": func(c *Config) { c.RebalanceEvery, c.RebalanceExponent = 1, 0.5 },
		"LoRAPlusRatio":     func(c *Config) { c.LoRAPlusRatio = 4 }, "Schedule": func(c *Config) { c.Schedule.WarmupSteps = 5 },
		"ClipNorm": func(c *Config) { c.ClipNorm = 0.1 }, "Fallback": func(c *Config) { c.Fallback.LearningRate = 0.5 },
		"Exact":    func(c *Config) { c.Exact = true },
		"Manifold": func(c *Config) { c.Manifold = Manifold{Set: "ball", Radius: 1} }, "MaxPreconditioned": func(c *Config) { c.MaxPreconditioned = 9 },
		"SpectralBudget":     func(c *Config) { c.SpectralBudget = 1e-4 },
		"SpectralBudgetMode": func(c *Config) { c.SpectralBudget, c.SpectralBudgetMode = 1e-4, BudgetClippedDecay },
		"SpectralBudgetDecay": func(c *Config) {
			c.SpectralBudget, c.SpectralBudgetMode, c.SpectralBudgetDecay = 1e-4, BudgetClippedDecay, 0.5
		},
	}
	fields := reflect.TypeFor[Config]()
	for i := range fields.NumField() {
		name := fields.Field(i).Name
		change, found := changes[name]
		if name == "Name" {
			continue
		}
		if !found {
			t.Errorf("no case for Config.%s", name)
			continue
		}
		base := func(*Config) {}
		if needs := map[string]string{"RebalanceExponent": "RebalanceEvery", "SpectralBudgetMode": "SpectralBudget",
			"SpectralBudgetDecay": "SpectralBudgetMode"}[name]; needs != "" {
			base = changes[needs]
		}
		if !counts(t, base, change) {
			t.Errorf("Config.%s changes nothing", name)
		}
	}
}

// counts reports whether a change of the configuration changes what lora-muon, adamw or shampoo does in three steps.
func counts(t *testing.T, base, change func(*Config)) bool {
	t.Helper()
	for _, optimizer := range []string{"lora-muon", "adamw", "shampoo"} {
		changed := setting(t, optimizer, change)
		if changed.Validate() != nil {
			continue // a setting of the other one
		}
		values := mixture(optimizer)
		for i := range values { // tiny factors, where the guard acts, and unbalanced ones
			if values[i].spec.Side == param.SideB {
				values[i].x.Scale(1e-3, values[i].x)
			}
		}
		grads := [][]*mat.Dense{gradients(values, 1, 1), gradients(values, 1, 2), gradients(values, 1, 3)}
		want := after(t, setting(t, optimizer, base), values, grads...)
		for i, x := range after(t, changed, values, grads...) {
			if relative(x, want[i]) > 0 {
				return true
			}
		}
	}
	return false
}

// TestPairErrors: a factor without its partner, or with one that does not fit, is named.
func TestPairErrors(t *testing.T) {
	rng := random(1, 1)
	a, b := gaussian(rng, 6, 2), gaussian(rng, 4, 2)
	whole := pair("l", a, b, 1)
	wider := pair("l", a, gaussian(rng, 4, 3), 1)
	scaledPair := pair("l", a, b, 2)
	twice := whole[0]
	twice.path = "/other"
	for want, values := range map[string][]value{
		"no trainable factor B": {whole[0]},
		"no trainable factor A": {whole[1]},
		"different rank":        {whole[0], wider[1]},
		"width or scale":        {whole[0], scaledPair[1]},
		"one factor on each":    {whole[0], twice},
		"/other [6 2]":          {whole[0], whole[1], twice},
	} {
		o := mustNew(t, setting(t, "lora-muon"))
		if _, err := o.Routes(newStore(t, values...)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}

// TestUpdateErrors: misuse while the graph is built is an error of the execution, with what was wrong.
func TestUpdateErrors(t *testing.T) {
	rng := random(1, 1)
	for want, build := range map[string]func(o *Optimizer, scope *mlmodel.Scope, w *mlmodel.Variable, x *Node){
		"the loss must be a scalar": func(o *Optimizer, scope *mlmodel.Scope, w *mlmodel.Variable, x *Node) {
			o.UpdateGraph(scope, x.Graph(), w.NodeValue(x))
		},
		"gradient of /w has shape": func(o *Optimizer, scope *mlmodel.Scope, w *mlmodel.Variable, x *Node) {
			o.Apply(scope, x.Graph(), []VarGrad{{w, x}})
		},
		"a variable was given twice": func(o *Optimizer, scope *mlmodel.Scope, w *mlmodel.Variable, x *Node) {
			g := w.NodeValue(x)
			o.Apply(scope, x.Graph(), []VarGrad{{w, g}, {w, g}})
		},
		"no gradients": func(o *Optimizer, scope *mlmodel.Scope, w *mlmodel.Variable, x *Node) {
			o.UpdateGraphWithGradients(scope, nil, x.DType())
		},
		"got 2 gradients for the 1 trainable variables": func(o *Optimizer, scope *mlmodel.Scope, w *mlmodel.Variable, x *Node) {
			g := w.NodeValue(x)
			o.UpdateGraphWithGradients(scope, []*Node{g, g}, x.DType())
		},
	} {
		store := newStore(t, dense("/w", gaussian(rng, 3, 2)))
		o := mustNew(t, setting(t, "muon"))
		exec, err := mlmodel.NewExec(check.Backend(t), store, func(scope *mlmodel.Scope, x *Node) *Node {
			build(o, scope, store.GetVariable("/w"), x)
			return x
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := exec.Call(float32(1)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
		exec.Finalize()
	}
}
