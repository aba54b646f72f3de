package main

import (
	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/internal/safetensors"
	"github.com/polargo/polar/matfn"
	"github.com/polargo/polar/model"
	"github.com/polargo/polar/optimizer"
	"github.com/polargo/polar/param"
)

// openOptimizer prepares the row optimizer: LoRA-Muon's executable alone on the 210 pairs of the row lora, from gradients that
// are there and stay.
func openOptimizer(w *work, b compute.Backend, _ settings) error {
	cfg, err := smolLM2(0)
	if err != nil {
		return err
	}
	d, err := model.New(cfg)
	if err != nil {
		return err
	}
	store := mlmodel.NewStore()
	w.closers = append(w.closers, store.Finalize)
	for _, layer := range d.Layers() {
		if err := createPair(store, layer); err != nil {
			return err
		}
	}
	a, err := w.factors(b, store, d.Layers(), loraRank)
	if err != nil {
		return err
	}
	gradients := make([]*tensors.Tensor, len(a.trainable))
	for i, v := range a.trainable {
		dims := v.Shape().Dimensions
		data := gaussian(uint64(5000+i), 0, 1e-3, dims[0]*dims[1])
		w.give("gradient."+a.names[i], dims, func() ([]float32, error) { return data, nil })
		gradients[i] = tensors.FromFlatDataAndDimensions(data, dims...)
		if err := gradients[i].MaterializeOnDevice(b, true, 0); err != nil {
			return err
		}
	}
	exec, err := mlmodel.NewExec(b, store, a.updateGraph)
	if err != nil {
		return err
	}
	w.closers = append(w.closers, exec.Finalize)
	w.flops = a.flops()
	w.step = func() (outcome, error) {
		c := newClock()
		err := a.update(exec, gradients, false)
		return c.stop(), err
	}
	w.updates = func(path string) error { return a.writeUpdates(path, w.step) }
	return nil
}

func createPair(store *mlmodel.Store, layer param.Layer) error {
	for _, side := range []struct {
		side param.Side
		rows int
	}{{param.SideA, layer.FanOut}, {param.SideB, layer.FanIn}} {
		path := "/adapter" + param.Path(layer.Name) + "/" + string(side.side)
		zeros := tensors.FromFlatDataAndDimensions(make([]float32, side.rows*loraRank), side.rows, loraRank)
		spec := param.Spec{Role: param.Pair, FanOut: layer.FanOut, FanIn: layer.FanIn, Layer: layer.Name, Side: side.side,
			Scale: float64(loraAlpha) / loraRank}
		if err := param.Tag(store, store.VariableWithValue(path, zeros), spec); err != nil {
			return err
		}
	}
	return nil
}

// flops counts the products of one step of the optimizer: those of its Cost, with polar factors in the form that package matfn
// chooses instead of the direct one.
func (a *adapters) flops() float64 {
	steps := len(matfn.PolarExpress8)
	total := int64(0)
	for _, layer := range a.layers {
		total += optimizer.LoRAMuonFlops(layer.FanOut, layer.FanIn, loraRank)
		for _, length := range []int{layer.FanOut, layer.FanIn} {
			total += matfn.MsignFlopsOf(length, loraRank) - matfn.MsignFlops(length, loraRank, steps)
		}
	}
	return float64(total)
}

// writeUpdates takes a step and writes the difference it made to each factor.
func (a *adapters) writeUpdates(path string, step func() (outcome, error)) error {
	before := make([][]float32, len(a.trainable))
	var err error
	for i, v := range a.trainable {
		if before[i], err = values(v); err != nil {
			return err
		}
	}
	if _, err := step(); err != nil {
		return err
	}
	out := make([]safetensors.Tensor, len(a.trainable))
	for i, v := range a.trainable {
		after, err := values(v)
		if err != nil {
			return err
		}
		for j := range after {
			after[j] -= before[i][j]
		}
		out[i] = safetensors.FromFloat32(a.names[i], v.Shape().Dimensions, after)
	}
	return safetensors.Write(path, out, nil)
}
