package run

import (
	"context"
	"fmt"

	"github.com/gomlx/compute"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/internal/graphx"
	"github.com/polargo/polar/model"
	"github.com/polargo/polar/param"
)

// gradients computes gradients of the loss as sums over tokens, so that how rows are split into micro-batches does not
// change the update. The sums live in the backend's memory and are handed from one micro-batch to the next: nothing is
// kept between steps, and a step of one micro-batch adds nothing up.
type gradients struct {
	backend     compute.Backend
	variables   []*mlmodel.Variable
	first, next *mlmodel.Exec // the first micro-batch of a step, and those that add to its sums
}

// newGradients prepares the gradients with respect to the variables, trainable or not.
func newGradients(backend compute.Backend, store *mlmodel.Store, decoder *model.Decoder, options model.Options, variables []*mlmodel.Variable) (*gradients, error) {
	g := &gradients{backend: backend, variables: variables}
	build := func(nodes []*Node, sums []*Node) []*Node {
		loss, weight := decoder.Loss(store, inputs(nodes), options)
		values := make([]*Node, len(variables))
		for i, v := range variables {
			values[i] = v.NodeValue(loss)
		}
		norm := ScalarZero(loss.Graph(), loss.DType())
		totals := Gradient(loss, values...)
		for i := range totals {
			if sums != nil {
				totals[i] = Add(sums[i], totals[i])
			}
			norm = Add(norm, ReduceAllSum(Square(totals[i])))
		}
		return append([]*Node{loss, weight, norm}, totals...)
	}
	var err error
	g.first, err = mlmodel.NewExec(backend, store, func(_ *mlmodel.Scope, nodes []*Node) []*Node { return build(nodes, nil) })
	if err != nil {
		return nil, err
	}
	g.next, err = mlmodel.NewExec(backend, store, func(_ *mlmodel.Scope, nodes []*Node) []*Node {
		batch := len(nodes) - len(variables)
		return build(nodes[:batch], nodes[batch:])
	})
	return g, err
}

// sums are the gradients of the micro-batches so far, with their summed loss, the weight of their tokens and the squared
// norm of the gradients. The zero value is the sum of none.
type sums struct {
	loss, weight, norm float64
	tensors            []*tensors.Tensor
}

// add returns the sums with a micro-batch added; the given ones are used up. microLoss is the loss of this micro-batch.
func (g *gradients) add(before sums, args []any) (after sums, microLoss float64, err error) {
	exec := g.first
	if before.tensors != nil {
		exec = g.next
		donated, err := g.donate(before.tensors)
		if err != nil {
			return sums{}, 0, err
		}
		args = append(args, donated...)
	}
	outputs, err := callTensors(exec, args...)
	if err != nil {
		return sums{}, 0, err
	}
	values := scalars(outputs[:3])
	after = sums{loss: before.loss + values[0], weight: before.weight + values[1], norm: values[2], tensors: outputs[3:]}
	return after, values[0], nil
}

// donate gives the tensors' memory to the execution they are arguments of.
func (g *gradients) donate(all []*tensors.Tensor) ([]any, error) {
	out := make([]any, len(all))
	for i, t := range all {
		var err error
		if out[i], err = DonateTensorBuffer(t, g.backend, 0); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// free releases sums that nobody needs.
func (s sums) free() {
	for _, t := range s.tensors {
		_ = t.FinalizeAll()
	}
}

func (g *gradients) close() {
	g.first.Finalize()
	g.next.Finalize()
}

// gradientRows is how many rows of the first batches the gradient initialisation looks at: LoRA-GA uses a few dozen
// examples; the top singular vectors settle within a few batches. gradientTokens bounds those looked at in one go.
const (
	gradientRows   = 8
	gradientTokens = 2048
)

// gradientChunk is the number of rows that initialGradients looks at in one go; it divides gradientRows. More than one go
// needs the memory of the gradients twice, more tokens that of their activations.
func gradientChunk(length int) int {
	rows := gradientRows
	for rows > 1 && rows*length > gradientTokens {
		rows /= 2
	}
	return rows
}

// initialGradients returns the full gradient [fan-out, fan-in] of the loss for each layer's weight, summed over the
// first rows of the training data, with recomputed activations.
func (s *Session) initialGradients(ctx context.Context, layers []param.Layer) (map[string][]float32, error) {
	batch, err := s.corpus.Train().Batch(0, gradientRows)
	if err != nil {
		return nil, err
	}
	variables := make([]*mlmodel.Variable, len(layers))
	for i, layer := range layers {
		if variables[i] = s.store.GetVariable(layer.Weight); variables[i] == nil {
			return nil, fmt.Errorf("layer %s has no weight in the store", layer.Name)
		}
	}
	g, err := newGradients(s.backend, s.store, s.decoder, model.Options{Checkpoint: true}, variables)
	if err != nil {
		return nil, err
	}
	defer g.close()
	var total sums
	chunk := gradientChunk(batch.Length)
	for row := 0; row < batch.Rows; row += chunk {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		s.progress("gradient of the first rows", int64(row), int64(batch.Rows))
		if total, _, err = g.add(total, arguments(batch, row, row+chunk)); err != nil {
			return nil, err
		}
	}
	if total.weight == 0 || !finite(total.norm) {
		total.free()
		return nil, fmt.Errorf("init gradient: the gradient of the first %d rows is zero or not finite; use another --init", batch.Rows)
	}
	return takeGradients(layers, total.tensors)
}

// takeGradients copies the tensors into Go's memory, freeing each before the next is copied.
func takeGradients(layers []param.Layer, all []*tensors.Tensor) (map[string][]float32, error) {
	out := make(map[string][]float32, len(layers))
	for i, layer := range layers {
		flat, err := tensors.CopyFlatData[float32](all[i])
		if err != nil {
			return nil, err
		}
		out[layer.Name] = flat
		_ = all[i].FinalizeAll()
	}
	return out, nil
}

// callTensors runs exec, and turns the panics of graph building into errors.
func callTensors(exec *mlmodel.Exec, args ...any) ([]*tensors.Tensor, error) {
	return graphx.Try1(func() ([]*tensors.Tensor, error) { return exec.Exec(args...) })
}

// call is callTensors for scalar results.
func call(exec *mlmodel.Exec, args ...any) ([]float64, error) {
	outputs, err := callTensors(exec, args...)
	if err != nil {
		return nil, err
	}
	return scalars(outputs), nil
}

func scalars(outputs []*tensors.Tensor) []float64 {
	values := make([]float64, len(outputs))
	for i, t := range outputs {
		values[i] = float64(tensors.ToScalar[float32](t))
		_ = t.FinalizeAll()
	}
	return values
}
