package cli

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/polargo/polar/backend"
	"github.com/polargo/polar/internal/npy"
	"github.com/polargo/polar/internal/safetensors"
	"github.com/polargo/polar/optimizer"
)

// stepCommand is 'polar step': one step of an optimizer on tensors in a file.
type stepCommand struct {
	Optimizer    string   `help:"The optimizer; 'polar optimizers' lists them." required:"" placeholder:"NAME" group:"optimizer"`
	LearningRate *float64 `help:"Learning rate; without it the optimizer's own." aliases:"lr" placeholder:"ETA" group:"optimizer"`
	Beta         *float64 `help:"Momentum (AdamW's beta1); without it the optimizer's own." aliases:"momentum" placeholder:"BETA" group:"optimizer"`
	Beta2        *float64 `help:"Average of second moments, where there is one." placeholder:"BETA" group:"optimizer"`
	Eps          *float64 `help:"Term added to the root of the second moment, where there is one." aliases:"epsilon" placeholder:"EPS" group:"optimizer"`
	WeightDecay  *float64 `help:"Decoupled weight decay; without it the optimizer's own." placeholder:"LAMBDA" group:"optimizer"`
	Step         int      `help:"Number of the step, from 1: bias corrections depend on it." default:"1" placeholder:"N" group:"optimizer"`
	Exact        bool     `help:"Converged polar factors and roots without a ridge, in float64, and the plain rule without the guard: what other programs can be compared with." group:"optimizer"`
	WidthScale   string   `help:"Scale of a muon step by the layer's shape: none, rms, jordan or moonlight. none makes the learning rate a spectral norm; without a value it is rms." enum:"none,rms,jordan,moonlight" default:"none" group:"optimizer"`
	Nesterov     bool     `help:"Nesterov momentum, where the optimizer knows it." group:"optimizer"`
	Guard        bool     `help:"Bound lora-muon's second-order term when a factor is tiny; on without --exact." default:"true" negatable:"" group:"optimizer"`
	S            float64  `name:"s" help:"s of a pair W_pre + s A Bᵀ." default:"1" group:"optimizer"`
	In           string   `help:"State: A, B, grad_A, grad_B or W, grad_W, and moments m_A, v_W, ...; missing moments are zero." required:"" placeholder:"STATE.safetensors" group:"run"`
	Backend      string   `help:"Compute backend; empty takes $GOMLX_BACKEND or the default." group:"run"`
	Out          string   `short:"o" required:"" help:"File to write: all of --in, updated, and the moments that were missing." placeholder:"NEXT.safetensors" group:"output"`
}

// Help is shown under the flags' summary.
func (*stepCommand) Help() string {
	return `Tensors are float32: a pair A (m x r) and B (n x r) of W_pre + s A Bᵀ, or a weight W (m x n), each with its gradient.
The moments are updated first and the new ones used. State has the name of what it belongs to: m_A, v_B, L_W. Optimizers
for pairs move W as in training, most of them by muon.

Examples:

    polar step --optimizer lora-muon --lr 0.1 --in STATE.safetensors -o NEXT.safetensors
    polar step --optimizer adamw --lr 2e-4 --beta 0.9 --beta2 0.999 --eps 1e-8 --weight-decay 0 --step 7 --in STATE.safetensors -o NEXT.safetensors
    polar step --optimizer muon --lr 0.02 --exact --in W.safetensors -o W.safetensors`
}

// Run takes the step.
func (c *stepCommand) Run(ctx context.Context, p *program, parsed *kong.Context) error {
	cfg, err := c.config(parsed)
	if err != nil {
		return err
	}
	if err := checkPlace(c.Out); err != nil {
		return err
	}
	engine, err := backend.Open(c.Backend)
	if err != nil {
		return err
	}
	in, metadata, err := readState(c.In)
	if err != nil {
		return err
	}
	for _, x := range in {
		if slices.Max(append(x.Shape().Dimensions, 0)) > 256 {
			p.warnSlow(c.Backend)
		}
	}
	step := optimizer.TensorStep{Config: cfg, Count: c.Step, S: c.S}
	out, err := await(ctx, func() (map[string]*tensors.Tensor, error) { return step.Run(engine, in) })
	if err != nil {
		return fmt.Errorf("%s: %w", c.In, err)
	}
	var list []safetensors.Tensor
	for name, x := range out {
		list = append(list, safetensors.FromFloat32(name, x.Shape().Dimensions, tensors.MustCopyFlatData[float32](x)))
	}
	if err := safetensors.Write(c.Out, list, metadata); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(p.stdout, "%s, step %d: wrote %s\n", cfg.Name, c.Step, c.Out)
	table(p.stdout, changes(in, out))
	return nil
}

// config returns the optimizer's settings: its own, and what the flags say.
func (c *stepCommand) config(parsed *kong.Context) (optimizer.Config, error) {
	info, err := optimizer.Describe(c.Optimizer)
	if err != nil {
		return optimizer.Config{}, &problem{status: statusUsage, cause: err}
	}
	cfg, err := optimizer.Default(c.Optimizer)
	if err != nil {
		return optimizer.Config{}, err
	}
	guarded := cfg.Guard
	for _, flag := range []struct {
		name  string
		value *float64
		to    *float64
		read  bool
	}{
		{"lr", c.LearningRate, &cfg.LearningRate, true}, {"beta", c.Beta, &cfg.Momentum, true}, {"weight-decay", c.WeightDecay, &cfg.WeightDecay, true},
		{"beta2", c.Beta2, &cfg.Beta2, info.Beta2}, {"eps", c.Eps, &cfg.Epsilon, info.Epsilon},
	} {
		switch {
		case flag.value == nil:
		case !flag.read:
			return cfg, usagef("", "--%s has no effect on %s", flag.name, c.Optimizer)
		case math.IsNaN(*flag.value) || math.IsInf(*flag.value, 0):
			return cfg, usagef("", "--%s is %v, want a finite number", flag.name, *flag.value)
		default:
			*flag.to = *flag.value
		}
	}
	cfg.Exact, cfg.Nesterov, cfg.Scale, cfg.Guard = c.Exact, c.Nesterov, c.WidthScale, guarded && !c.Exact
	if given(parsed, "guard") {
		cfg.Guard = c.Guard
	}
	switch {
	case given(parsed, "guard") && !guarded:
		return cfg, usagef("", "--guard has no effect on %s", c.Optimizer)
	case c.WidthScale != "none" && !optimizer.WidthScaled(c.Optimizer):
		return cfg, usagef("", "--width-scale has no effect on %s, whose steps have no norm of their own", c.Optimizer)
	case c.Nesterov && !info.Nesterov:
		return cfg, usagef("", "--nesterov has no effect on %s", c.Optimizer)
	case c.Step < 1:
		return cfg, usagef("", "--step is %d, but steps count from 1", c.Step)
	case !(c.S > 0) || math.IsInf(c.S, 0):
		return cfg, usagef("", "--s is %v, want it positive and finite", c.S)
	}
	if err := cfg.Validate(); err != nil {
		return cfg, &problem{status: statusUsage, cause: err}
	}
	return cfg, nil
}

// readState reads all tensors of a safetensors file as float32.
func readState(path string) (map[string]*tensors.Tensor, map[string]string, error) {
	file, err := safetensors.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = file.Close() }()
	in := map[string]*tensors.Tensor{}
	for _, name := range file.Names() {
		data, shape, err := file.Float32(name)
		if err != nil {
			return nil, nil, err
		}
		in[name] = tensors.FromFlatDataAndDimensions(data, shape...)
	}
	return in, file.Metadata(), nil
}

// changes lists how far the tensors moved that are not gradients: their shape, the Frobenius norm of the change, and that
// norm relative to the tensor's before.
func changes(in, out map[string]*tensors.Tensor) [][]string {
	rows := [][]string{{"tensor", "shape", "change", "relative"}}
	for _, name := range slices.Sorted(maps.Keys(out)) {
		if strings.HasPrefix(name, "grad_") {
			continue
		}
		now := tensors.MustCopyFlatData[float32](out[name])
		before := make([]float32, len(now))
		if in[name] != nil {
			before = tensors.MustCopyFlatData[float32](in[name])
		}
		change, norm := 0.0, 0.0
		for i := range now {
			change, norm = math.Hypot(change, float64(now[i])-float64(before[i])), math.Hypot(norm, float64(before[i]))
		}
		relative := "new"
		if norm > 0 {
			relative = fmt.Sprintf("%.3g", change/norm)
		}
		rows = append(rows, []string{name, npy.ShapeText(out[name].Shape().Dimensions), fmt.Sprintf("%.4g", change), relative})
	}
	return rows
}
