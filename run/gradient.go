package run

import (
	"context"

	. "github.com/gomlx/gomlx/core/graph" //lint:ignore ST1001 graph code reads as mathematics
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/internal/graphx"
	"github.com/polargo/polar/model"
	"github.com/polargo/polar/param"
)

// gradientRows is how many rows of the first batches the gradient initialisation looks at: LoRA-GA uses a few dozen
// examples; the top singular vectors settle within a few batches.
const gradientRows = 8

// initialGradients returns the full gradient [fan-out, fan-in] of the loss for each layer's weight, summed over the
// first rows of the training data, one row at a time. Its memory is that of the layers' weights twice.
func (s *Session) initialGradients(ctx context.Context, layers []param.Layer) (map[string][]float32, error) {
	sums := make(map[string][]float32, len(layers))
	batch, err := s.corpus.Train().Batch(0, gradientRows)
	if err != nil {
		return nil, err
	}
	exec, err := mlmodel.NewExec(s.backend, s.store, func(_ *mlmodel.Scope, nodes []*Node) []*Node {
		loss, _ := s.decoder.Loss(s.store, inputs(nodes), model.Options{Checkpoint: true})
		weights := make([]*Node, len(layers))
		for i, layer := range layers {
			weights[i] = s.store.GetVariable(layer.Weight).NodeValue(loss.Graph())
		}
		return Gradient(loss, weights...)
	})
	if err != nil {
		return nil, err
	}
	defer exec.Finalize()
	for row := range batch.Rows {
		if ctx.Err() != nil {
			return nil, ErrInterrupted
		}
		s.progress("gradient of the first rows", int64(row), int64(batch.Rows))
		err := graphx.Try(func() error {
			outputs, err := exec.Exec(arguments(batch, row, row+1)...)
			if err != nil {
				return err
			}
			return addGradients(sums, layers, outputs)
		})
		if err != nil {
			return nil, err
		}
	}
	return sums, nil
}

func addGradients(sums map[string][]float32, layers []param.Layer, outputs []*tensors.Tensor) error {
	for i, layer := range layers {
		err := tensors.ConstFlatData(outputs[i], func(flat []float32) {
			sum := sums[layer.Name]
			if sum == nil {
				sum = make([]float32, len(flat))
				sums[layer.Name] = sum
			}
			for j, x := range flat {
				sum[j] += x
			}
		})
		if err != nil {
			return err
		}
		_ = outputs[i].FinalizeAll()
	}
	return nil
}
