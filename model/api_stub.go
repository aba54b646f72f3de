package model

import (
	"context"
	"errors"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/param"
)

var errLater = errors.New("being built")

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
	LossChunk  int          // rows of logits computed at once; 0 chooses
}

// SampleConfig says how to sample.
type SampleConfig struct {
	Temperature, TopP float64
	TopK, MaxTokens   int
	Seed              int64
	Stop              []int
}

// Generator samples with a KV cache.
type Generator struct{}

// Init is being built.
func (d *Decoder) Init(store *mlmodel.Store, seed int64) error { return errLater }

// SetTrainable is being built.
func (d *Decoder) SetTrainable(store *mlmodel.Store, on bool) error { return errLater }

// Logits is being built.
func (d *Decoder) Logits(store *mlmodel.Store, in Inputs, opts Options) *graph.Node { panic(errLater) }

// Loss is being built.
func (d *Decoder) Loss(store *mlmodel.Store, in Inputs, opts Options) (lossSum, weightSum *graph.Node) {
	panic(errLater)
}

// NewGenerator is being built.
func NewGenerator(backend compute.Backend, store *mlmodel.Store, dec *Decoder, opts Options, maxLen int) (*Generator, error) {
	return nil, errLater
}

// Generate is being built.
func (g *Generator) Generate(ctx context.Context, prompt []int, sample SampleConfig, onToken func(int) error) ([]int, error) {
	return nil, errLater
}
