package model

import (
	"strings"
	"testing"

	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/graphx"
)

// packedLengths are documents and, last, padding.
var packedLengths = []int{5, 1, 8, 4}

// packedBatch is one row of documents and padding, whose loss weights are 0, as package data makes them.
func packedBatch(vocabulary int) batch {
	length := 0
	for _, n := range packedLengths {
		length += n
	}
	b := randomBatch(5, vocabulary, 1, length)
	b.segments = packed(packedLengths...)
	for _, n := range packedLengths {
		for i := range n {
			b.positions = append(b.positions, int32(i))
		}
	}
	for i, segment := range b.segments {
		if segment == 0 {
			b.weights[i] = 0
		}
	}
	return b
}

// document returns the tokens of b from one to another as a batch of their own.
func (b batch) document(from, to int) batch {
	return batch{rows: 1, length: to - from, tokens: b.tokens[from:to], targets: b.targets[from:to], weights: b.weights[from:to]}
}

// TestPacking: documents in one row have the logits that each has alone; without segments or positions they have not. The
// reference agrees on the whole row, padding included.
func TestPacking(t *testing.T) {
	forEach(t, func(t *testing.T, n net) {
		b := packedBatch(n.cfg.VocabSize)
		got := wide(n.logits(t, b, Options{}))
		check.Close(t, "row", got, flat(n.plain().batchLogits(b)), logitsTol)
		loose := wide(n.logits(t, b.document(0, b.length), Options{}))
		at, vocabulary := 0, n.cfg.VocabSize
		for i, length := range packedLengths[:len(packedLengths)-1] {
			alone := wide(n.logits(t, b.document(at, at+length), Options{}))
			from, to := at*vocabulary, (at+length)*vocabulary
			check.Close(t, "document", got[from:to], alone, logitsTol)
			if i > 0 {
				bites(t, "document without segments", loose[from:to], alone, logitsTol)
			}
			at += length
		}
	})
}

// TestPadding: what stands in the padding changes no bit of the other tokens' logits, of the loss and of the gradients, except
// those of the embeddings of the tokens themselves, which stay zero; and the padding's own logits are numbers.
func TestPadding(t *testing.T) {
	forEach(t, func(t *testing.T, n net) {
		b := packedBatch(n.cfg.VocabSize)
		other := b
		other.tokens = append([]int32(nil), b.tokens...)
		end := b.length - packedLengths[len(packedLengths)-1]
		for i := end; i < b.length; i++ {
			other.tokens[i] = (b.tokens[i] + 1 + int32(i)%5) % int32(n.cfg.VocabSize)
		}
		logits, otherLogits := n.logits(t, b, Options{}), n.logits(t, other, Options{})
		if !finite(logits) || !finite(otherLogits) {
			t.Error("logits are not finite")
		}
		same(t, "logits", otherLogits[:end*n.cfg.VocabSize], logits[:end*n.cfg.VocabSize])
		if check.Compare(logits[end*n.cfg.VocabSize:], otherLogits[end*n.cfg.VocabSize:], logitsTol) == "" {
			t.Error("the padding's own logits do not depend on its tokens: the test changes nothing")
		}
		loss, _, gradients := n.lossAndGradients(t, b, Options{})
		otherLoss, _, otherGradients := n.lossAndGradients(t, other, Options{})
		same(t, "loss", []float32{otherLoss}, []float32{loss})
		for i, p := range n.Parameters() {
			check.Close(t, p.Name, otherGradients[i], gradients[i], 0)
		}
	})
}

// TestRowsAreIndependent: a row's logits keep every bit when the other rows change, and keep their value when it is alone.
func TestRowsAreIndependent(t *testing.T) {
	forEach(t, func(t *testing.T, n net) {
		b := randomBatch(6, n.cfg.VocabSize, 3, 7)
		row := 7 * n.cfg.VocabSize
		got := n.logits(t, b, Options{})[row : 2*row]
		other := randomBatch(7, n.cfg.VocabSize, 3, 7)
		copy(other.tokens[7:14], b.tokens[7:14])
		same(t, "beside other rows", n.logits(t, other, Options{})[row:2*row], got)
		check.Close(t, "alone", n.logits(t, b.document(7, 14), Options{}), got, logitsTol)
	})
}

// TestLaterTokensAreUnseen: a token's logits keep every bit when what follows changes.
func TestLaterTokensAreUnseen(t *testing.T) {
	forEach(t, func(t *testing.T, n net) {
		b := randomBatch(8, n.cfg.VocabSize, 1, 70)
		got := n.logits(t, b, Options{})
		other := randomBatch(9, n.cfg.VocabSize, 1, 70)
		for _, at := range []int{1, 66} { // in the first and the second block of queries
			copy(other.tokens[:at], b.tokens[:at])
			same(t, "logits", n.logits(t, other, Options{})[:at*n.cfg.VocabSize], got[:at*n.cfg.VocabSize])
		}
	})
}

// TestInputsRefused: a graph for inputs that cannot be meant is not built, and the message says what is wrong.
func TestInputsRefused(t *testing.T) {
	n := newNet(t, small("llama", nil))
	ids := func(rows, length int) any { return tensors.FromScalarAndDimensions(int32(0), rows, length) }
	floats := func(rows, length int) any { return tensors.FromScalarAndDimensions(float32(0), rows, length) }
	loss := func(in []*Node) *Node {
		loss, _ := n.Loss(n.store, Inputs{Tokens: in[0], Targets: in[1], Weights: in[2]}, Options{})
		return loss
	}
	logits := func(in []*Node) *Node { return n.Logits(n.store, Inputs{Tokens: in[0]}, Options{}) }
	for _, c := range []struct {
		want  string
		args  []any
		build func(in []*Node) *Node
	}{
		{"rows of 137 tokens are longer than the model's 136 positions", []any{ids(1, 137)}, logits},
		{"tokens are (Float32)[1, 3], want Int32 [B, T]", []any{floats(1, 3)}, logits},
		{"segments are (Int32)[1, 4], want Int32 [B, T] like the tokens, (Int32)[1, 3]", []any{ids(1, 3), ids(1, 4)},
			func(in []*Node) *Node { return n.Logits(n.store, Inputs{Tokens: in[0], Segments: in[1]}, Options{}) }},
		{"positions are (Float32)[1, 3]", []any{ids(1, 3), floats(1, 3)},
			func(in []*Node) *Node { return n.Logits(n.store, Inputs{Tokens: in[0], Positions: in[1]}, Options{}) }},
		{"targets are (Int32)[3, 1]", []any{ids(1, 3), ids(3, 1), floats(1, 3)}, loss},
		{"weights are (Int32)[1, 3], want Float32", []any{ids(1, 3), ids(1, 3), ids(1, 3)}, loss},
		{"the store has no variable /model/embed_tokens/weight", []any{ids(1, 3)},
			func(in []*Node) *Node { return n.Logits(mlmodel.NewStore(), Inputs{Tokens: in[0]}, Options{}) }},
	} {
		err := graphx.Try(func() error {
			_, err := mlmodel.CallOnceN(check.Backend(t), n.store, func(_ *mlmodel.Scope, in []*Node) []*Node {
				return []*Node{ConvertDType(c.build(in), dtypes.Float32)}
			}, c.args...)
			return err
		})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}
