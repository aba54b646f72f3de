package main

import (
	"math"
	"math/rand/v2"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/model"
	"github.com/polargo/polar/param"
)

// sgdRate is the learning rate of the rows step2 and step6. The driver compares the losses of three steps, which shows
// whether all gradients are right.
const sgdRate = 0.1

// characters is the size of TinyShakespeare's alphabet.
const characters = 65

// openDecoder prepares step2 and step6: loss, gradients and update of all weights of the lab model by gradient descent, in
// one executable.
func openDecoder(w *work, b compute.Backend, s settings) error {
	cfg, rows, length := model.Lab(characters, 128, 2, 4, 64), 32, 64
	if s.row == "step6" {
		cfg, rows, length = model.Lab(characters, 384, 6, 6, 256), 4, 256
	}
	if s.layers > 0 {
		cfg.Layers = s.layers
	}
	d, store, err := w.decoder(cfg)
	if err != nil {
		return err
	}
	if err := d.SetTrainable(store, true); err != nil {
		return err
	}
	args, err := w.batch(b, cfg, rows, length)
	if err != nil {
		return err
	}
	w.hasLoss, w.flops = true, decoderFlops(d, rows, length, 6)
	exec, err := mlmodel.NewExec(b, store, func(_ *mlmodel.Scope, in []*Node) []*Node {
		loss := meanLoss(d, store, in, model.Options{})
		var variables []*mlmodel.Variable
		var nodes []*Node
		for _, p := range d.Parameters() {
			v := store.GetVariable(p.Path())
			variables, nodes = append(variables, v), append(nodes, v.NodeValue(loss))
		}
		for i, gradient := range Gradient(loss, nodes...) {
			variables[i].SetNodeValue(Sub(nodes[i], MulScalar(gradient, sgdRate)))
		}
		return []*Node{loss}
	})
	if err != nil {
		return err
	}
	w.closers = append(w.closers, exec.Finalize)
	w.step = func() (outcome, error) {
		c := newClock()
		out, err := call(exec, args...)
		if err != nil {
			return outcome{}, err
		}
		c.outcome.Loss = float64(tensors.ToScalar[float32](out[0]))
		return c.stop(), finalize(out)
	}
	return nil
}

// decoder makes a model with random weights of about the size that training keeps.
func (w *work) decoder(cfg model.Config) (*model.Decoder, *mlmodel.Store, error) {
	d, err := model.New(cfg)
	if err != nil {
		return nil, nil, err
	}
	store := mlmodel.NewStore()
	for i, p := range d.Parameters() {
		size := 1
		for _, dim := range p.Shape {
			size *= dim
		}
		mean, deviation := 0.0, 0.02
		switch p.Role {
		case param.Hidden:
			deviation = 1 / math.Sqrt(float64(p.Shape[1]))
		case param.Vector:
			mean, deviation = 1, 0.1
		}
		v := store.VariableWithValue(p.Path(), tensors.FromFlatDataAndDimensions(gaussian(uint64(i+1), mean, deviation, size), p.Shape...))
		w.giveVariable(p.Name, v)
	}
	w.closers = append(w.closers, store.Finalize)
	return d, store, nil
}

// batch makes random tokens and targets, and weights of one, in the backend's memory.
func (w *work) batch(b compute.Backend, cfg model.Config, rows, length int) ([]any, error) {
	rng := rand.New(rand.NewPCG(7, 7))
	var args []any
	for _, name := range []string{"tokens", "targets"} {
		ids, shown := make([]int32, rows*length), make([]float32, rows*length)
		for i := range ids {
			ids[i] = int32(rng.IntN(cfg.VocabSize))
			shown[i] = float32(ids[i]) // exact below 2^24
		}
		w.give(name, []int{rows, length}, func() ([]float32, error) { return shown, nil })
		args = append(args, tensors.FromFlatDataAndDimensions(ids, rows, length))
	}
	ones := make([]float32, rows*length)
	for i := range ones {
		ones[i] = 1
	}
	args = append(args, tensors.FromFlatDataAndDimensions(ones, rows, length))
	for _, a := range args {
		if err := a.(*tensors.Tensor).MaterializeOnDevice(b, true, 0); err != nil {
			return nil, err
		}
	}
	return args, nil
}

func meanLoss(d *model.Decoder, store *mlmodel.Store, in []*Node, opts model.Options) *Node {
	sum, weight := d.Loss(store, model.Inputs{Tokens: in[0], Targets: in[1], Weights: in[2]}, opts)
	return ConvertDType(Div(sum, weight), dtypes.Float32)
}

// decoderFlops counts the products of a step: perWeight operations a token and weight of the linear layers and the head (2
// forward, 2 for the gradient of the input, 2 for that of the weight) and the causal half of attention, 2·T² a width
// forward and twice that backward.
func decoderFlops(d *model.Decoder, rows, length int, perWeight float64) float64 {
	c := d.Config()
	weights := float64(c.VocabSize * c.Hidden)
	for _, layer := range d.Layers() {
		weights += float64(layer.FanOut * layer.FanIn)
	}
	attention := 6 * float64(rows) * float64(length) * float64(length) * float64(c.Layers*c.Heads*c.HeadDim)
	return perWeight*float64(rows*length)*weights + attention
}
