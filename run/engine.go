package run

import (
	"context"
	"fmt"
	"iter"
	"math"

	"github.com/gomlx/compute"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/data"
	"github.com/polargo/polar/model"
	"github.com/polargo/polar/optimizer"
)

// engine holds the executables of a run: gradients of a micro-batch, the optimizer's update, the loss of a batch.
// Frozen weights are buffers that all of them share; nothing copies them.
type engine struct {
	backend   compute.Backend
	store     *mlmodel.Store
	decoder   *model.Decoder
	options   model.Options
	optimizer *optimizer.Optimizer
	trainable []*mlmodel.Variable

	gradients        *gradients
	update, evaluate *mlmodel.Exec

	// inspect, unless nil, sees the gradients of a step before they are used up.
	inspect func(total sums) error
}

func newEngine(backend compute.Backend, store *mlmodel.Store, decoder *model.Decoder, options model.Options, opt *optimizer.Optimizer) (*engine, error) {
	e := &engine{backend: backend, store: store, decoder: decoder, options: options, optimizer: opt}
	for v := range store.IterVariables() {
		if v.Trainable {
			e.trainable = append(e.trainable, v)
		}
	}
	var err error
	if e.gradients, err = newGradients(backend, store, decoder, options, e.trainable); err != nil {
		return nil, err
	}
	if e.update, err = mlmodel.NewExec(backend, store, e.updateGraph); err != nil {
		return nil, err
	}
	e.evaluate, err = mlmodel.NewExec(backend, store, e.lossGraph)
	return e, err
}

// inputs names the nodes of a batch: tokens, targets, weights, and for packed rows segments and positions.
func inputs(nodes []*Node) model.Inputs {
	in := model.Inputs{Tokens: nodes[0], Targets: nodes[1], Weights: nodes[2]}
	if len(nodes) > 3 {
		in.Segments, in.Positions = nodes[3], nodes[4]
	}
	return in
}

// updateGraph takes the weight of a step's tokens and the summed gradients, divides, and lets the optimizer take its step.
func (e *engine) updateGraph(scope *mlmodel.Scope, nodes []*Node) []*Node {
	weight, gradients := nodes[0], nodes[1:]
	pairs := make([]optimizer.VarGrad, len(e.trainable))
	for i, v := range e.trainable {
		pairs[i] = optimizer.VarGrad{Var: v, Grad: Div(gradients[i], weight)}
	}
	e.optimizer.Apply(scope, weight.Graph(), pairs)
	return []*Node{weight}
}

func (e *engine) lossGraph(_ *mlmodel.Scope, nodes []*Node) []*Node {
	loss, weight := e.decoder.Loss(e.store, inputs(nodes), e.options)
	return []*Node{loss, weight}
}

// arguments turns rows [from, to) of a batch into the tensors of the graphs.
func arguments(b data.Batch, from, to int) []any {
	cut := func(values []int32) *tensors.Tensor {
		return tensors.FromFlatDataAndDimensions(values[from*b.Length:to*b.Length], to-from, b.Length)
	}
	args := []any{cut(b.Tokens), cut(b.Targets),
		tensors.FromFlatDataAndDimensions(b.Weights[from*b.Length:to*b.Length], to-from, b.Length)}
	if b.Segments != nil {
		args = append(args, cut(b.Segments), cut(b.Positions))
	}
	return args
}

// stepResult is the loss and gradient norm of one optimizer step, both a mean over the step's trained tokens.
type stepResult struct {
	loss, gradientNorm, weight float64
}

// step trains on a batch split into micro-batches of equal rows. A loss or gradient that is not finite is an error of
// type *NonFiniteError and leaves the weights as they were.
func (e *engine) step(b data.Batch, microBatches int) (stepResult, error) {
	rows := b.Rows / microBatches
	var total sums
	for i := range microBatches {
		after, loss, err := e.gradients.add(total, arguments(b, i*rows, (i+1)*rows))
		if err != nil {
			return stepResult{}, err
		}
		total = after
		if !finite(loss) {
			total.free()
			return stepResult{}, &NonFiniteError{What: "loss", Where: e.locate(arguments(b, i*rows, (i+1)*rows))}
		}
	}
	if total.weight == 0 {
		total.free()
		return stepResult{}, fmt.Errorf("no token of the step carries loss: every label is masked")
	}
	if !finite(total.norm) {
		where := e.locateGradient(total.tensors)
		total.free()
		return stepResult{}, &NonFiniteError{What: "gradient", Where: where}
	}
	if e.inspect != nil {
		if err := e.inspect(total); err != nil {
			total.free()
			return stepResult{}, err
		}
	}
	donated, err := e.gradients.donate(total.tensors)
	if err != nil {
		return stepResult{}, err
	}
	if _, err := call(e.update, append([]any{float32(total.weight)}, donated...)...); err != nil {
		return stepResult{}, err
	}
	return stepResult{loss: total.loss / total.weight, gradientNorm: math.Sqrt(total.norm) / total.weight, weight: total.weight}, nil
}

// meanLoss returns the mean loss of at most most batches (0: all) and the number of tokens it is over. Batches of the
// micro-batch's shape need no more memory than training.
func (e *engine) meanLoss(ctx context.Context, batches iter.Seq2[data.Batch, error], most int, each func(done int)) (float64, int64, error) {
	var loss, weight float64
	done := 0
	for b, err := range batches {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return 0, 0, err
		}
		if most > 0 && done == most {
			break
		}
		out, err := call(e.evaluate, arguments(b, 0, b.Rows)...)
		if err != nil {
			return 0, 0, err
		}
		if !finite(out[0]) {
			return 0, 0, &NonFiniteError{What: "validation loss", Where: e.locate(arguments(b, 0, b.Rows))}
		}
		loss, weight, done = loss+out[0], weight+out[1], done+1
		each(done)
	}
	if weight == 0 {
		return 0, 0, fmt.Errorf("the validation data has no trained tokens")
	}
	return loss / weight, int64(weight), nil
}

func (e *engine) close() {
	e.gradients.close()
	e.update.Finalize()
	e.evaluate.Finalize()
}
