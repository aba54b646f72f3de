package model

import (
	"github.com/gomlx/gomlx/core/graph"
	"github.com/polargo/polar/param"
)

// Inputs are the graph inputs of a decoder.
type Inputs struct {
	Tokens   *graph.Node // int32 [B, T]
	Targets  *graph.Node // int32 [B, T]; only for Loss
	Weights  *graph.Node // float32 [B, T], loss weight of each target, 0 = masked; only for Loss
	Segments *graph.Node // int32 [B, T], number of the packed document from 1, 0 = padding; nil for plain windows
	// Positions int32 [B, T], restarting with each document; nil for 0, 1, 2, ...
	Positions *graph.Node
}

// Options of building the graph.
type Options struct {
	Linear     param.Linear // nil: x Wᵀ with the store's weight
	Checkpoint bool         // recompute each block in the backward pass instead of keeping its activations
	LossChunk  int          // rows of logits computed at once by Loss; 0 chooses
	// Trace, if not nil, is called while the graph is built with the name and the value of each part: the embedding, each
	// block's attention and MLP, the final norm. It works with Checkpoint only outside the blocks.
	Trace func(name string, x *graph.Node)
}

func (o Options) trace(name string, x *graph.Node) {
	if o.Trace != nil {
		o.Trace(name, x)
	}
}
