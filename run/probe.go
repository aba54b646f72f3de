package run

import (
	"math"

	"github.com/gomlx/compute"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/data"
	"github.com/polargo/polar/internal/graphx"
	"github.com/polargo/polar/model"
)

// probeTokens is the length of the probe prompt: enough to reach every layer's every head, short enough to be free.
const probeTokens = 32

// A sample's prompt is the untrained opening of an example, which a chat's or a prompt/completion row has, where its
// length is between these; otherwise the probe's tokens.
const (
	minOpening    = 4
	openingTokens = 160
)

// probe is a prompt on which the model is compared before and after training and after export.
type probe struct {
	ids    []int32
	sample []int32   // prompt of sample text
	start  []float32 // logits before training
}

// tokens returns the probe prompt: the beginning of the first validation row (training row when there is none).
func (p *probe) tokens(s *Session) ([]int, error) {
	if p.ids == nil {
		batch, err := firstBatch(s)
		if err != nil {
			return nil, err
		}
		end := firstExample(batch)
		p.ids = append([]int32(nil), batch.Tokens[:min(end, probeTokens)]...)
		p.sample = p.ids
		for i := range min(end, openingTokens) {
			if batch.Weights[i] > 0 { // the next token is the first that is trained on
				if i >= minOpening {
					p.sample = append([]int32(nil), batch.Tokens[:i+1]...)
				}
				break
			}
		}
	}
	return widen(p.ids), nil
}

// firstExample is the number of tokens of a row's first example.
func firstExample(b data.Batch) int {
	end := 1
	for end < b.Length && (b.Segments == nil || b.Segments[end] == 1) {
		end++
	}
	return end
}

func widen(ids []int32) []int {
	out := make([]int, len(ids))
	for i, id := range ids {
		out[i] = int(id)
	}
	return out
}

func firstBatch(s *Session) (data.Batch, error) {
	if split := s.corpus.Validation(); split != nil && split.Rows() > 0 {
		for batch, err := range split.Windows(1) {
			return batch, err
		}
	}
	return s.corpus.Train().Batch(0, 1)
}

// begin keeps the logits of the model as it is before training.
func (p *probe) begin(s *Session) (err error) {
	p.start, err = p.logits(s)
	return err
}

// logits returns the logits of the probe under the session's model, flat [tokens · vocabulary].
func (p *probe) logits(s *Session) ([]float32, error) {
	if _, err := p.tokens(s); err != nil {
		return nil, err
	}
	return p.run(s.backend, s.store, s.decoder, s.modelOptions())
}

func (p *probe) run(backend compute.Backend, store *mlmodel.Store, decoder *model.Decoder, options model.Options) ([]float32, error) {
	options.Checkpoint = false
	return graphx.Try1(func() ([]float32, error) {
		exec, err := mlmodel.NewExec(backend, store, func(_ *mlmodel.Scope, tokens *Node) *Node {
			return decoder.Logits(store, model.Inputs{Tokens: tokens}, options)
		})
		if err != nil {
			return nil, err
		}
		defer exec.Finalize()
		outputs, err := exec.Exec(tensors.FromFlatDataAndDimensions(p.ids, 1, len(p.ids)))
		if err != nil {
			return nil, err
		}
		return tensors.CopyFlatData[float32](outputs[0])
	})
}

func maxDifference(a, b []float32) float64 {
	largest := 0.0
	for i := range a {
		difference := math.Abs(float64(a[i]) - float64(b[i]))
		if math.IsNaN(difference) {
			return math.NaN()
		}
		largest = max(largest, difference)
	}
	return largest
}

func maxAbs(a []float32) float64 {
	largest := 0.0
	for _, x := range a {
		largest = max(largest, math.Abs(float64(x)))
	}
	return largest
}
