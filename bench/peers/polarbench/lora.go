package main

import (
	"math"

	"github.com/gomlx/compute"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/adapter"
	"github.com/polargo/polar/model"
	"github.com/polargo/polar/optimizer"
	"github.com/polargo/polar/param"
)

// The row lora: SmolLM2-135M's shape, pairs on all seven projections, as package run trains them.
const (
	loraRank   = 16
	loraAlpha  = 32
	loraRows   = 4
	loraLength = 256
	muonRate   = 0.01
)

func smolLM2(layers int) (model.Config, error) {
	c, err := model.Base("llama")
	c.VocabSize, c.Hidden, c.Intermediate, c.Layers, c.Heads, c.KVHeads = 49152, 576, 1536, 30, 9, 3
	c.MaxPositions, c.TiedEmbeddings, c.Rope.Base = 8192, true, 100000
	if layers > 0 {
		c.Layers = layers
	}
	return c, err
}

// adapters is what the rows lora and optimizer train.
type adapters struct {
	backend   compute.Backend
	store     *mlmodel.Store
	optimizer *optimizer.Optimizer
	trainable []*mlmodel.Variable
	names     []string
	layers    []param.Layer
}

// factors returns the pairs of the layers, with random values that are nowhere zero.
func (w *work) factors(b compute.Backend, store *mlmodel.Store, layers []param.Layer, rank int) (*adapters, error) {
	cfg, err := optimizer.Default("lora-muon")
	if err != nil {
		return nil, err
	}
	cfg.LearningRate = muonRate
	a := &adapters{backend: b, store: store, layers: layers}
	if a.optimizer, err = optimizer.New(cfg); err != nil {
		return nil, err
	}
	for i, layer := range layers {
		for j, side := range []struct {
			side param.Side
			rows int
		}{{param.SideA, layer.FanOut}, {param.SideB, layer.FanIn}} {
			v := store.GetVariable("/adapter" + param.Path(layer.Name) + "/" + string(side.side))
			data := gaussian(uint64(1000+2*i+j), 0, 1/math.Sqrt(float64(side.rows)), side.rows*rank)
			if err := v.SetValue(tensors.FromFlatDataAndDimensions(data, side.rows, rank)); err != nil {
				return nil, err
			}
			name := "adapter." + layer.Name + "." + string(side.side)
			a.trainable, a.names = append(a.trainable, v), append(a.names, name)
			w.giveVariable(name, v)
		}
	}
	return a, nil
}

// updateGraph takes the gradients and lets the optimizer take its step.
func (a *adapters) updateGraph(scope *mlmodel.Scope, gradients []*Node) []*Node {
	pairs := make([]optimizer.VarGrad, len(a.trainable))
	for i, v := range a.trainable {
		pairs[i] = optimizer.VarGrad{Var: v, Grad: gradients[i]}
	}
	a.optimizer.Apply(scope, gradients[0].Graph(), pairs)
	return []*Node{ScalarOne(gradients[0].Graph(), gradients[0].DType())}
}

// update is one step of the optimizer; the gradients' memory is given away when donate is set.
func (a *adapters) update(exec *mlmodel.Exec, gradients []*tensors.Tensor, donate bool) error {
	args := make([]any, len(gradients))
	for i, t := range gradients {
		args[i] = t
		if !donate {
			continue
		}
		var err error
		if args[i], err = DonateTensorBuffer(t, a.backend, 0); err != nil {
			return err
		}
	}
	out, err := call(exec, args...)
	if err != nil {
		return err
	}
	return finalize(out)
}

func openLoRA(w *work, b compute.Backend, s settings) error {
	cfg, err := smolLM2(s.layers)
	if err != nil {
		return err
	}
	d, store, err := w.decoder(cfg)
	if err != nil {
		return err
	}
	if err := d.SetTrainable(store, false); err != nil {
		return err
	}
	settings := adapter.Config{Rank: loraRank, Alpha: loraAlpha, Init: adapter.InitLoRA, Seed: 1}
	set, err := adapter.New(store, d.Layers(), settings, adapter.Options{})
	if err != nil {
		return err
	}
	a, err := w.factors(b, store, set.Layers(), loraRank)
	if err != nil {
		return err
	}
	args, err := w.batch(b, cfg, loraRows, loraLength)
	if err != nil {
		return err
	}
	w.hasLoss = true
	w.flops = decoderFlops(d, loraRows, loraLength, 4) + 6*loraRows*loraLength*float64(set.Parameters()) + a.flops()
	options := model.Options{Linear: set.Linear(store)}
	gradients, err := mlmodel.NewExec(b, store, func(_ *mlmodel.Scope, in []*Node) []*Node {
		loss := meanLoss(d, store, in, options)
		nodes := make([]*Node, len(a.trainable))
		for i, v := range a.trainable {
			nodes[i] = v.NodeValue(loss)
		}
		return append([]*Node{loss}, Gradient(loss, nodes...)...)
	})
	if err != nil {
		return err
	}
	update, err := mlmodel.NewExec(b, store, a.updateGraph)
	if err != nil {
		return err
	}
	w.closers = append(w.closers, gradients.Finalize, update.Finalize)
	w.step = loraStep(a, gradients, update, args)
	return nil
}

// loraStep is the step of the row lora in its two executables.
func loraStep(a *adapters, gradients, update *mlmodel.Exec, args []any) func() (outcome, error) {
	first := true
	return func() (outcome, error) {
		c := newClock()
		out, err := call(gradients, args...)
		if err != nil {
			return outcome{}, err
		}
		c.outcome.Loss = float64(tensors.ToScalar[float32](out[0]))
		c.part("gradient")
		if first {
			if c.outcome.Norm, err = norm(out[1:]); err != nil {
				return outcome{}, err
			}
			first = false
		}
		if err := a.update(update, out[1:], true); err != nil {
			return outcome{}, err
		}
		c.part("optimizer")
		return c.stop(), out[0].FinalizeAll()
	}
}

// norm returns the norm of all gradients.
func norm(all []*tensors.Tensor) (float64, error) {
	sum := 0.0
	for _, t := range all {
		flat, err := tensors.CopyFlatData[float32](t)
		if err != nil {
			return 0, err
		}
		for _, x := range flat {
			sum += float64(x) * float64(x)
		}
	}
	return math.Sqrt(sum), nil
}
