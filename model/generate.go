package model

import (
	"context"
	"errors"
	"fmt"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/internal/graphx"
)

// promptChunk is how many tokens of a prompt are read at once. One shape serves every prompt, so that nothing is compiled
// twice; at 64 rows the products already run at full speed.
const promptChunk = 64

// Generator generates text with a key/value cache, one row at a time. One goroutine may use it. It reads the weights from the
// store it was made for, which must not be used by another execution meanwhile.
type Generator struct {
	backend  compute.Backend
	decoder  *Decoder
	length   int // prompt and generated tokens together
	capacity int // rows of the cache: length rounded up to whole chunks
	exec     *mlmodel.Exec
	cache    []*tensors.Tensor
}

// NewGenerator returns a generator for at most maxLen tokens, prompt included. Memory: the cache takes
// 8·layers·(key/value heads)·(head dimension) bytes a token. It returns an error when the model has fewer positions.
func NewGenerator(backend compute.Backend, store *mlmodel.Store, dec *Decoder, opts Options, maxLen int) (*Generator, error) {
	if maxLen < 1 || maxLen > dec.cfg.MaxPositions {
		return nil, fmt.Errorf("generate: %d tokens are outside the model's 1 to %d positions", maxLen, dec.cfg.MaxPositions)
	}
	opts.Checkpoint, opts.Trace = false, nil
	g := &Generator{backend: backend, decoder: dec, length: maxLen, capacity: (maxLen + promptChunk - 1) / promptChunk * promptChunk}
	var err error
	g.exec, err = mlmodel.NewExec(backend, store, func(_ *mlmodel.Scope, in []*Node) []*Node {
		logits, rows := dec.extend(store, opts, in[0], in[1], in[2], in[3:])
		return append([]*Node{logits}, rows...)
	})
	if err != nil {
		return nil, fmt.Errorf("generate: %w", err)
	}
	return g, nil
}

// Generate continues the prompt and returns the new tokens; a stop token ends it and is not among them. onToken, if not nil,
// is called with each as it comes; its error ends the generation. When ctx is cancelled it returns the tokens so far with
// ctx's error. The same prompt, settings and weights give the same tokens on one machine.
func (g *Generator) Generate(ctx context.Context, prompt []int, sample SampleConfig, onToken func(int) error) ([]int, error) {
	if err := sample.Validate(); err != nil {
		return nil, err
	}
	if err := g.checkPrompt(prompt); err != nil {
		return nil, err
	}
	defer g.free()
	logits, err := g.read(ctx, prompt)
	if err != nil {
		return nil, err
	}
	sampler := newSampler(sample)
	var out []int
	for len(out) < sample.MaxTokens && len(prompt)+len(out) < g.length {
		token, err := sampler.choose(logits)
		if err != nil || sampler.stops(token) {
			return out, err
		}
		out = append(out, token)
		if onToken != nil {
			if err := onToken(token); err != nil {
				return out, err
			}
		}
		at := len(prompt) + len(out) - 1
		if at+1 >= g.length || len(out) == sample.MaxTokens {
			break // its successor would have no room, or was not asked for
		}
		if err := ctx.Err(); err != nil {
			return out, err
		}
		if logits, err = g.extend([]int{token}, 1, at); err != nil {
			return out, err
		}
	}
	return out, nil
}

func (g *Generator) checkPrompt(prompt []int) error {
	if len(prompt) == 0 || len(prompt) > g.length {
		return fmt.Errorf("generate: the prompt has %d tokens, want 1 to %d", len(prompt), g.length)
	}
	for i, token := range prompt {
		if token < 0 || token >= g.decoder.cfg.VocabSize {
			return fmt.Errorf("generate: token %d of the prompt is %d; the model knows 0 to %d", i, token, g.decoder.cfg.VocabSize-1)
		}
	}
	return nil
}

// read fills an empty cache with the prompt and returns the logits after it.
func (g *Generator) read(ctx context.Context, prompt []int) (logits []float32, err error) {
	c := g.decoder.cfg
	g.free()
	for range 2 * c.Layers {
		t, err := tensors.FromShapeForBackend(g.backend, 0, shapes.Make(dtypes.Float32, c.KVHeads, g.capacity, c.HeadDim))
		if err != nil {
			return nil, fmt.Errorf("generate: %w", err)
		}
		g.cache = append(g.cache, t)
		if err := t.MutableBytes(func(data []byte) { clear(data) }); err != nil { // the memory may have been used before
			return nil, fmt.Errorf("generate: %w", err)
		}
	}
	if len(prompt) == 1 {
		return g.extend(prompt, 1, 0)
	}
	for at := 0; at < len(prompt); at += promptChunk {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if logits, err = g.extend(prompt[at:min(at+promptChunk, len(prompt))], promptChunk, at); err != nil {
			return nil, err
		}
	}
	return logits, nil
}

// extend reads tokens, padded to count, puts their keys and values into the cache, and returns the logits after the last.
func (g *Generator) extend(tokens []int, count, start int) (logits []float32, err error) {
	ids := make([]int32, count)
	for i, token := range tokens {
		ids[i] = int32(token)
	}
	args := []any{tensors.FromFlatDataAndDimensions(ids, 1, count), int32(start), int32(len(tokens) - 1)}
	for _, t := range g.cache {
		args = append(args, t)
	}
	err = graphx.Try(func() error {
		outputs, err := g.exec.Exec(args...)
		if err != nil {
			return err
		}
		defer finalize(outputs)
		if logits, err = tensors.CopyFlatData[float32](outputs[0]); err != nil {
			return err
		}
		for i, rows := range outputs[1:] {
			if err := g.store(g.cache[i], rows, start); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("generate: %w", err)
	}
	return logits, nil
}

// store copies rows [kv heads, count, h] into a cache array from row start on.
func (g *Generator) store(cache, rows *tensors.Tensor, start int) error {
	size := g.decoder.cfg.HeadDim
	n := rows.Shape().Dim(1) * size
	var inner error
	err := tensors.ConstFlatData(rows, func(from []float32) {
		inner = tensors.MutableFlatData(cache, func(to []float32) {
			for head := range g.decoder.cfg.KVHeads {
				at := (head*g.capacity + start) * size
				copy(to[at:at+n], from[head*n:(head+1)*n])
			}
		})
	})
	return errors.Join(err, inner)
}

func finalize(all []*tensors.Tensor) {
	for _, t := range all {
		_ = t.FinalizeAll()
	}
}

// free drops the cache.
func (g *Generator) free() {
	finalize(g.cache)
	g.cache = nil
}

// Close frees the compiled graphs. The generator must not be used afterwards.
func (g *Generator) Close() {
	g.free()
	g.exec.Finalize()
}
