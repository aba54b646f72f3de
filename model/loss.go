package model

import (
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/internal/vjp"
	"github.com/polargo/polar/param"
)

// Loss builds the cross-entropy of in.Targets in natural logarithms, each times its weight, summed over all tokens, and the
// sum of the weights: float32 scalars. The mean loss is their quotient; sums are what accumulating over several batches
// needs. Logits exist for Options.LossChunk rows at a time. A token less likely than e^-87 counts as e^-87; its gradient
// is not bounded so. It panics like Logits.
func (d *Decoder) Loss(store *mlmodel.Store, in Inputs, opts Options) (lossSum, weightSum *Node) {
	p := d.begin(store, in, opts)
	checkInput("targets", in.Targets, in.Tokens, dtypes.Int32)
	checkInput("weights", in.Weights, in.Tokens, dtypes.Float32)
	head := p.value(param.Path(d.headName()))
	chunk := opts.LossChunk
	if chunk <= 0 {
		chunk = max(1, maxLogits/d.cfg.VocabSize)
	}
	loss := crossEntropy(p.hidden(in), head, Reshape(in.Targets, -1), Reshape(in.Weights, -1), chunk)
	return loss, ReduceAllSum(in.Weights)
}

// maxLogits is how many logits exist at once: 16 Mi are 64 MiB, twice with their probabilities.
const maxLogits = 16 << 20

// smallest is the smallest normal float32, below which a probability has no accurate logarithm.
const smallest = 1.1754944e-38

// crossEntropy returns Σ_i w_i (-log softmax(x_i headᵀ)[t_i]) for x [N, d], head [V, d], t int32 [N], w [N].
//
// The gradients of x and head are built beside the loss, chunk by chunk, while the chunk's probabilities are there; in a
// graph that does not use them they cost nothing. dx_i = w_i (p_i head - head[t_i]).
func crossEntropy(x, head, targets, weights *Node, chunk int) *Node {
	var dx []*Node
	var dhead *Node
	forward := func() *Node {
		var total *Node
		for from := 0; from < x.Shape().Dim(0); from += chunk {
			to := min(from+chunk, x.Shape().Dim(0))
			c := newLossChunk(sliceAxis(x, 0, from, to), head, sliceAxis(targets, 0, from, to), sliceAxis(weights, 0, from, to))
			total = sumOf(total, c.loss)
			dx = append(dx, c.dx)
			dhead = sumOf(dhead, c.dhead)
		}
		return total
	}
	return vjp.Custom([]*Node{x, head}, forward, func(_, dy *Node) []*Node {
		return []*Node{Mul(joinAxis(dx, 0), dy), Mul(Transpose(dhead, 0, 1), dy)}
	})
}

// lossChunk is the loss of some rows and its gradients, that of the head transposed, [d, V].
type lossChunk struct{ loss, dx, dhead *Node }

func newLossChunk(x, head, targets, weights *Node) lossChunk {
	g := x.Graph()
	n, vocabulary := x.Shape().Dim(0), head.Shape().Dim(0)
	p := Softmax(DotGeneral(x, []int{1}, nil, head, []int{1}, nil), -1)
	row := Iota(g, shapes.Make(dtypes.Int32, n, 1), 0)
	column := Reshape(targets, n, 1)
	chosen := Gather(p, Concatenate([]*Node{row, column}, 1))
	tiny := Scalar(g, p.DType(), smallest)
	chosen = Where(LessThan(chosen, tiny), BroadcastToDims(tiny, n), chosen) // Max would hide NaN on some engines
	weighted := scaleRows(x, weights)
	scatter := Scatter(column, weighted, shapes.Make(x.DType(), vocabulary, x.Shape().Dim(1)), false, false)
	return lossChunk{
		loss:  Neg(ReduceAllSum(Mul(weights, Log(chosen)))),
		dx:    scaleRows(Sub(DotGeneral(p, []int{1}, nil, head, []int{0}, nil), Gather(head, column)), weights),
		dhead: Sub(DotGeneral(Transpose(weighted, 0, 1), []int{1}, nil, p, []int{0}, nil), Transpose(scatter, 0, 1)),
	}
}

func sumOf(sum, x *Node) *Node {
	if sum == nil {
		return x
	}
	return Add(sum, x)
}
