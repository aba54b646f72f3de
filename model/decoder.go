package model

import (
	"fmt"

	"github.com/polargo/polar/param"
)

// Tensor is one tensor of a decoder's checkpoint.
type Tensor struct {
	Name  string     // the checkpoint's name, for example "model.embed_tokens.weight"
	Shape []int      // the shape in the store; linear weights are [fan-out, fan-in]
	Role  param.Role // what it is, for the optimizers
	// Conv1D is set where the checkpoint stores the matrix transposed, [fan-in, fan-out] (GPT-2's linear layers).
	Conv1D bool
}

// Path is the parameter's variable in the store.
func (p Tensor) Path() string { return param.Path(p.Name) }

// Decoder is a decoder-only transformer: a checked configuration and the names of its parts.
type Decoder struct {
	cfg    Config
	blocks []block
	params []Tensor
	layers []param.Layer
}

// New returns the decoder of cfg, or an error naming everything that is wrong with it.
func New(cfg Config) (*Decoder, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	d := &Decoder{cfg: cfg.withDefaults()}
	d.describe()
	return d, nil
}

// Config returns the configuration with its defaults filled in.
func (d *Decoder) Config() Config { return d.cfg }

// Parameters lists every tensor of the decoder in checkpoint order: embeddings, blocks, final norm, head.
func (d *Decoder) Parameters() []Tensor { return append([]Tensor(nil), d.params...) }

// Layers lists the linear layers of the blocks in order (q, k, v, o, gate, up, down; for gpt2 c_attn, c_proj, c_fc, c_proj).
func (d *Decoder) Layers() []param.Layer { return append([]param.Layer(nil), d.layers...) }

// Size is the number of parameters.
func (d *Decoder) Size() int64 {
	var total int64
	for _, p := range d.params {
		n := int64(1)
		for _, dim := range p.Shape {
			n *= int64(dim)
		}
		total += n
	}
	return total
}

// block names the tensors of one transformer block.
type block struct {
	prefix                       string
	q, k, v, o, gate, up, down   param.Layer // q is the fused c_attn in gpt2; unused ones have no name
	norm1, norm2, qNorm, kNorm   string      // module names; "" where there is none
	fused, qkvBias, oBias, mBias bool
}

// names of the modules outside the blocks.
func (d *Decoder) embeddingName() string {
	if d.cfg.Architecture == "gpt2" {
		return "transformer.wte.weight"
	}
	return "model.embed_tokens.weight"
}

func (d *Decoder) positionName() string {
	if d.cfg.Architecture == "gpt2" {
		return "transformer.wpe.weight"
	}
	return "model.embed_positions.weight"
}

func (d *Decoder) finalNormName() string {
	if d.cfg.Architecture == "gpt2" {
		return "transformer.ln_f"
	}
	return "model.norm"
}

func (d *Decoder) headName() string {
	if d.cfg.TiedEmbeddings {
		return d.embeddingName()
	}
	return "lm_head.weight"
}

// describe fills blocks, params and layers.
func (d *Decoder) describe() {
	c := d.cfg
	d.params = append(d.params, Tensor{Name: d.embeddingName(), Shape: []int{c.VocabSize, c.Hidden}, Role: param.Embedding})
	if c.Positions == Learned {
		d.params = append(d.params, Tensor{Name: d.positionName(), Shape: []int{c.MaxPositions, c.Hidden}, Role: param.Embedding})
	}
	for i := range c.Layers {
		if c.Architecture == "gpt2" {
			d.describeGPT2(i)
		} else {
			d.describeLlama(i)
		}
	}
	d.addNorm(d.finalNormName(), c.Norm, c.Hidden)
	if !c.TiedEmbeddings {
		d.params = append(d.params, Tensor{Name: d.headName(), Shape: []int{c.VocabSize, c.Hidden}, Role: param.Head})
	}
}

func (d *Decoder) describeLlama(i int) {
	c := d.cfg
	prefix := fmt.Sprintf("model.layers.%d.", i)
	b := block{prefix: prefix, qkvBias: c.QKVBias, oBias: c.AttentionBias, mBias: c.MLPBias}
	heads, kv := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	b.norm1 = d.addNorm(prefix+"input_layernorm", c.Norm, c.Hidden)
	b.q = d.addLinear(prefix+"self_attn.q_proj", heads, c.Hidden, c.QKVBias, false)
	b.k = d.addLinear(prefix+"self_attn.k_proj", kv, c.Hidden, c.QKVBias, false)
	b.v = d.addLinear(prefix+"self_attn.v_proj", kv, c.Hidden, c.QKVBias, false)
	b.o = d.addLinear(prefix+"self_attn.o_proj", c.Hidden, heads, c.AttentionBias, false)
	b.qNorm = d.addNorm(prefix+"self_attn.q_norm", c.QKNorm, c.HeadDim)
	b.kNorm = d.addNorm(prefix+"self_attn.k_norm", c.QKNorm, c.HeadDim)
	b.norm2 = d.addNorm(prefix+"post_attention_layernorm", c.Norm, c.Hidden)
	if c.Gated {
		b.gate = d.addLinear(prefix+"mlp.gate_proj", c.Intermediate, c.Hidden, c.MLPBias, false)
	}
	b.up = d.addLinear(prefix+"mlp.up_proj", c.Intermediate, c.Hidden, c.MLPBias, false)
	b.down = d.addLinear(prefix+"mlp.down_proj", c.Hidden, c.Intermediate, c.MLPBias, false)
	d.blocks = append(d.blocks, b)
}

func (d *Decoder) describeGPT2(i int) {
	c := d.cfg
	prefix := fmt.Sprintf("transformer.h.%d.", i)
	b := block{prefix: prefix, fused: true, qkvBias: c.QKVBias, oBias: c.AttentionBias, mBias: c.MLPBias}
	b.norm1 = d.addNorm(prefix+"ln_1", c.Norm, c.Hidden)
	b.q = d.addLinear(prefix+"attn.c_attn", 3*c.Hidden, c.Hidden, c.QKVBias, true)
	b.o = d.addLinear(prefix+"attn.c_proj", c.Hidden, c.Hidden, c.AttentionBias, true)
	b.norm2 = d.addNorm(prefix+"ln_2", c.Norm, c.Hidden)
	b.up = d.addLinear(prefix+"mlp.c_fc", c.Intermediate, c.Hidden, c.MLPBias, true)
	b.down = d.addLinear(prefix+"mlp.c_proj", c.Hidden, c.Intermediate, c.MLPBias, true)
	d.blocks = append(d.blocks, b)
}

// addNorm declares the parameters of a norm and returns its module name, "" where it has none.
func (d *Decoder) addNorm(module string, kind NormKind, width int) string {
	if kind != NormRMS && kind != NormLayer {
		return ""
	}
	d.params = append(d.params, Tensor{Name: module + ".weight", Shape: []int{width}, Role: param.Vector})
	if kind == NormLayer {
		d.params = append(d.params, Tensor{Name: module + ".bias", Shape: []int{width}, Role: param.Vector})
	}
	return module
}

// addLinear declares a linear layer, its weight and its bias.
func (d *Decoder) addLinear(module string, fanOut, fanIn int, bias, conv1D bool) param.Layer {
	weight := Tensor{Name: module + ".weight", Shape: []int{fanOut, fanIn}, Role: param.Hidden, Conv1D: conv1D}
	d.params = append(d.params, weight)
	if bias {
		d.params = append(d.params, Tensor{Name: module + ".bias", Shape: []int{fanOut}, Role: param.Vector})
	}
	layer := param.Layer{Name: module, FanOut: fanOut, FanIn: fanIn, Weight: weight.Path(), Conv1D: conv1D}
	d.layers = append(d.layers, layer)
	return layer
}
