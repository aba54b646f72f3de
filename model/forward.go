package model

import (
	"fmt"

	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/support/exceptions"
	"github.com/polargo/polar/internal/vjp"
	"github.com/polargo/polar/param"
)

// pass is one forward pass being built.
type pass struct {
	*Decoder
	store *mlmodel.Store
	opts  Options
	graph *Graph
	shape batchShape
	rope  *rotary // nil with learned positions
	mask  *mask
}

// Logits builds the logits of every token, [B, T, vocabulary] float32, from in.Tokens (and Segments and Positions where
// set). It panics while building the graph for wrong shapes or types, a row longer than the model's positions, or a
// variable that store lacks.
func (d *Decoder) Logits(store *mlmodel.Store, in Inputs, opts Options) *Node {
	p := d.begin(store, in, opts)
	logits := vjp.Times(p.hidden(in), p.value(param.Path(d.headName())), 1)
	p.opts.trace("head", logits)
	return Reshape(logits, p.shape.rows, p.shape.length, d.cfg.VocabSize)
}

// begin checks the inputs and builds what all blocks share.
func (d *Decoder) begin(store *mlmodel.Store, in Inputs, opts Options) *pass {
	checkInput("tokens", in.Tokens, in.Tokens, dtypes.Int32)
	dims := in.Tokens.Shape().Dimensions
	p := &pass{Decoder: d, store: store, opts: opts, graph: in.Tokens.Graph()}
	p.shape = batchShape{rows: dims[0], length: dims[1], tokensFirst: fusedAttention(p.graph)}
	for name, x := range map[string]*Node{"segments": in.Segments, "positions": in.Positions} {
		if x != nil {
			checkInput(name, x, in.Tokens, dtypes.Int32)
		}
	}
	if p.shape.length > d.cfg.MaxPositions {
		exceptions.Panicf("model: rows of %d tokens are longer than the model's %d positions", p.shape.length, d.cfg.MaxPositions)
	}
	p.mask = newMask(p.graph, d.cfg, p.shape, in.Segments)
	if d.cfg.Positions == Rotary {
		p.rope = newRotary(p.graph, d.cfg, p.shape, p.shape.length, in.Positions)
	}
	return p
}

func checkInput(name string, x, tokens *Node, dtype dtypes.DType) {
	if x.Rank() != 2 || x.DType() != dtype || !x.Shape().EqualDimensions(tokens.Shape()) {
		exceptions.Panicf("model: %s are %s, want %s [B, T] like the tokens, %s", name, x.Shape(), dtype, tokens.Shape())
	}
}

// value returns a variable in the graph.
func (p *pass) value(path string) *Node {
	v := p.store.GetVariable(path)
	if v == nil {
		exceptions.Panicf("model: the store has no variable %s", path)
	}
	return v.NodeValue(p.graph)
}

// parameter returns the named tensor of the checkpoint.
func (p *pass) parameter(name string) *Node { return p.value(param.Path(name)) }

// hidden builds everything up to the final norm: [B·T, hidden].
func (p *pass) hidden(in Inputs) *Node {
	x := p.embed(in)
	p.opts.trace("embedding", x)
	for i := range p.blocks {
		b := &p.blocks[i]
		if p.opts.Checkpoint {
			x = vjp.Checkpoint(x, func(x *Node) *Node { return p.block(b, x) }, p.constants()...)
			p.opts.trace(trimDot(b.prefix), x)
			continue
		}
		x = p.block(b, x)
	}
	x = p.norm(p.finalNormName(), p.cfg.Norm, x)
	p.opts.trace("final norm", x)
	return x
}

// embed builds the input of the first block, [B·T, hidden].
func (p *pass) embed(in Inputs) *Node {
	x := Gather(p.parameter(p.embeddingName()), Reshape(in.Tokens, -1, 1))
	if p.cfg.Positions == Learned {
		table := p.parameter(p.positionName())
		if in.Positions != nil {
			x = Add(x, Gather(table, Reshape(in.Positions, -1, 1)))
		} else {
			rows := sliceAxis(table, 0, 0, p.shape.length)
			x = Add(x, Reshape(repeat(Reshape(rows, 1, -1), p.shape.rows, 1), p.shape.tokens(), p.cfg.Hidden))
		}
	}
	if p.cfg.EmbeddingNorm {
		x = rmsNorm(x, nil, p.cfg.NormEps)
	}
	return x
}

// norm builds a norm of the rows of x; module names its parameters.
func (p *pass) norm(module string, kind NormKind, x *Node) *Node {
	switch kind {
	case NormNone:
		return x
	case NormPlain:
		return rmsNorm(x, nil, p.cfg.NormEps)
	case NormRMS:
		return rmsNorm(x, p.parameter(module+".weight"), p.cfg.NormEps)
	case NormLayer:
		return layerNorm(x, p.parameter(module+".weight"), p.parameter(module+".bias"), p.cfg.NormEps)
	}
	panic(fmt.Errorf("model: unknown norm %q", kind))
}

// linear builds a linear layer with its bias: [N, fan-in] -> [N, fan-out].
func (p *pass) linear(layer param.Layer, bias bool, x *Node) *Node {
	var y *Node
	if p.opts.Linear != nil {
		y = p.opts.Linear(x, layer)
	} else {
		y = vjp.Times(x, p.value(layer.Weight), 1)
	}
	if bias {
		y = addBias(y, p.parameter(layer.Name+".bias"))
	}
	return y
}

// block builds one transformer block, [B·T, hidden] -> [B·T, hidden].
func (p *pass) block(b *block, x *Node) *Node {
	x = Add(x, p.attention(b, p.norm(b.norm1, p.cfg.Norm, x)))
	if !p.opts.Checkpoint {
		p.opts.trace(b.prefix+"attention", x)
	}
	x = Add(x, p.mlp(b, p.norm(b.norm2, p.cfg.Norm, x)))
	if !p.opts.Checkpoint {
		p.opts.trace(b.prefix+"mlp", x)
	}
	return x
}

func (p *pass) mlp(b *block, x *Node) *Node {
	up := p.linear(b.up, b.mBias, x)
	var h *Node
	if p.cfg.Gated {
		h = activateGated(p.cfg.Activation, p.linear(b.gate, b.mBias, x), up)
	} else {
		h = activate(p.cfg.Activation, up)
	}
	return p.linear(b.down, b.mBias, h)
}

// project builds queries, keys and values, [B·T, heads·h] and [B·T, kv·h] twice.
func (p *pass) project(b *block, x *Node) (q, k, v *Node) {
	q = p.linear(b.q, b.qkvBias, x)
	if b.fused {
		d := p.cfg.Hidden
		return sliceAxis(q, 1, 0, d), sliceAxis(q, 1, d, 2*d), sliceAxis(q, 1, 2*d, 3*d)
	}
	return q, p.linear(b.k, b.qkvBias, x), p.linear(b.v, b.qkvBias, x)
}

// headNorm builds the norm of each head of x [N, heads·h].
func (p *pass) headNorm(module string, x *Node) *Node {
	if p.cfg.QKNorm == NormNone {
		return x
	}
	dims := x.Shape().Dimensions
	return Reshape(p.norm(module, p.cfg.QKNorm, Reshape(x, -1, p.cfg.HeadDim)), dims...)
}

// positioned splits queries and keys [B·T, heads·h] into heads, norms and rotates them; the queries come scaled.
func (p *pass) positioned(b *block, q, k *Node) (*Node, *Node) {
	q = splitHeads(p.headNorm(b.qNorm, q), p.shape, p.cfg.Heads)
	k = splitHeads(p.headNorm(b.kNorm, k), p.shape, p.cfg.KVHeads)
	if p.rope == nil {
		return MulScalar(q, p.cfg.attentionScale()), k
	}
	return p.rope.queries(q), p.rope.keys(k)
}

func (p *pass) attention(b *block, x *Node) *Node {
	q, k, v := p.project(b, x)
	q, k = p.positioned(b, q, k)
	v = splitHeads(v, p.shape, p.cfg.KVHeads)
	return p.linear(b.o, b.oBias, attend(q, k, v, p.shape, p.mask))
}

// constants lists the shared nodes that need no gradient.
func (p *pass) constants() []*Node {
	out := p.mask.constants()
	if p.rope != nil {
		out = append(out, p.rope.constants()...)
	}
	return out
}

func trimDot(prefix string) string { return prefix[:len(prefix)-1] }
