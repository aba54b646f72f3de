package run

import (
	"context"
	"fmt"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/adapter"
	"github.com/polargo/polar/matfn"
	"github.com/polargo/polar/model/hf"
)

// adapterChanges measures how far each adapted layer of a pretrained model moved; nil when there is none.
func (t *trainer) adapterChanges() ([]LayerChange, error) {
	if t.adapter == nil || t.base == nil {
		return nil, nil
	}
	norms, err := t.adapter.Norms()
	if err != nil {
		return nil, err
	}
	changes := make([]LayerChange, len(norms))
	for i, n := range norms {
		changes[i] = LayerChange{Layer: n.Layer, Norm: n.Delta, Balance: n.Balance}
	}
	return changes, checkMoved(changes)
}

// denseChanges measures how far the linear layers of the exported model, which checkExport loaded, are from the start.
func (t *trainer) denseChanges(ctx context.Context) ([]LayerChange, error) {
	start, err := t.startWeights(ctx)
	if err != nil {
		return nil, fmt.Errorf("compare with the start: %w", err)
	}
	defer start.Finalize()
	exec, err := NewExec(t.backend, func(now, before *Node) *Node {
		_, norm, _ := matfn.SpectralNorm(Sub(now, before))
		return norm
	})
	if err != nil {
		return nil, err
	}
	defer exec.Finalize()
	var changes []LayerChange
	for _, layer := range t.decoder.Layers() {
		norm, err := distance(exec, t.store.GetVariable(layer.Weight), start.GetVariable(layer.Weight))
		if err != nil {
			return nil, fmt.Errorf("change of layer %s: %w", layer.Name, err)
		}
		changes = append(changes, LayerChange{Layer: layer.Name, Norm: norm})
	}
	return changes, checkMoved(changes)
}

func distance(exec *Exec, now, before *mlmodel.Variable) (float64, error) {
	a, err := now.Value()
	if err != nil {
		return 0, err
	}
	b, err := before.Value()
	if err != nil {
		return 0, err
	}
	out, err := exec.Call1(a, b)
	if err != nil {
		return 0, err
	}
	return float64(tensors.ToScalar[float32](out)), nil
}

// startWeights returns the dense weights that training began with.
func (t *trainer) startWeights(ctx context.Context) (*mlmodel.Store, error) {
	if t.base != nil {
		loaded, err := hf.Load(ctx, t.Config.Model, hf.LoadOptions{Offline: t.Config.Offline, Revision: t.Config.Revision, Backend: t.backend})
		if err != nil {
			return nil, err
		}
		return loaded.Store, nil
	}
	store := mlmodel.NewStore()
	if err := t.decoder.Init(store, t.Config.Seed); err != nil {
		return nil, err
	}
	if t.Config.Lab.PairRank == 0 {
		return store, nil
	}
	pairs, err := adapter.NewPairs(store, t.decoder.Layers(), t.pairsConfig())
	if err != nil {
		return nil, err
	}
	return store, pairs.Merge()
}

// checkMoved returns an error when a layer is exactly where it began.
func checkMoved(changes []LayerChange) error {
	for _, change := range changes {
		if change.Norm == 0 {
			return fmt.Errorf("training did not change layer %s: its gradient may not reach it", change.Layer)
		}
	}
	return nil
}
