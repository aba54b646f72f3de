package model

import (
	"context"
	"errors"

	"github.com/gomlx/compute"
	mlmodel "github.com/gomlx/gomlx/ml/model"
)

var errLater = errors.New("being built")

// SampleConfig says how to sample.
type SampleConfig struct {
	Temperature, TopP float64
	TopK, MaxTokens   int
	Seed              int64
	Stop              []int
}

// Generator samples with a KV cache.
type Generator struct{}

// Workload is what Estimate estimates: one forward and backward pass over Rows rows of Length tokens with adapters of the
// given rank (0: all weights train).
type Workload struct {
	Rows, Length, Rank int
	Checkpoint         bool
}

// Cost is an estimate.
type Cost struct {
	Bytes int64   // peak memory
	Flops float64 // floating-point operations of a forward and backward pass
}

// Estimate estimates memory and operations of training a decoder.
func Estimate(d *Decoder, w Workload) Cost { return Cost{} }

// NewGenerator is being built.
func NewGenerator(backend compute.Backend, store *mlmodel.Store, dec *Decoder, opts Options, maxLen int) (*Generator, error) {
	return nil, errLater
}

// Generate is being built.
func (g *Generator) Generate(ctx context.Context, prompt []int, sample SampleConfig, onToken func(int) error) ([]int, error) {
	return nil, errLater
}

// Close frees the cache.
func (g *Generator) Close() {}
