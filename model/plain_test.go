package model

import (
	"fmt"
	"math"
	"strings"
)

// plain is the decoder written as loops over single tokens in float64: the reference for everything that the graph computes.
// It shares nothing with the package but Config: names of tensors, rotation, mask and loss are written out again here.
type plain struct {
	cfg     Config
	weights map[string][]float64 // by the checkpoint's names
}

// plainRow is a row of a batch; nil segments and positions mean one document.
type plainRow struct{ tokens, segments, positions []int32 }

func (r plainRow) position(i int) int {
	if r.positions == nil {
		return i
	}
	return int(r.positions[i])
}

// sees says whether token i attends to token j.
func (r plainRow) sees(i, j, window int) bool {
	if j > i || window > 0 && i-j >= window {
		return false
	}
	return r.segments == nil || r.segments[i] == r.segments[j]
}

// names of the tensors: GPT-2's, or those that all other architectures share.
func (p plain) name(gpt2, other string) string {
	if p.cfg.Architecture == "gpt2" {
		return gpt2
	}
	return other
}

func (p plain) linear(module string, x []float64) []float64 {
	weight, bias := p.weights[module+".weight"], p.weights[module+".bias"]
	out := make([]float64, len(weight)/len(x))
	for i := range out {
		out[i] = dot(weight[i*len(x):(i+1)*len(x)], x)
		if bias != nil {
			out[i] += bias[i]
		}
	}
	return out
}

func (p plain) norm(kind NormKind, module string, x []float64) []float64 {
	if kind == NormNone {
		return x
	}
	mean, square := 0.0, 0.0
	if kind == NormLayer {
		for _, v := range x {
			mean += v / float64(len(x))
		}
	}
	for _, v := range x {
		square += (v - mean) * (v - mean) / float64(len(x))
	}
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = (v - mean) / math.Sqrt(square+p.cfg.NormEps)
		if kind != NormPlain {
			out[i] *= p.weights[module+".weight"][i]
		}
		if kind == NormLayer {
			out[i] += p.weights[module+".bias"][i]
		}
	}
	return out
}

// plainFrequency is the angle of pair i of a head a position, with transformers' formulas in wavelengths.
func plainFrequency(r Rope, i, headDim int) float64 {
	f := 1 / math.Pow(r.Base, float64(2*i)/float64(headDim))
	s := r.Scaling
	wave := 2 * math.Pi / f
	original := float64(s.OriginalMaxPositions)
	switch {
	case s.Type == "":
		return f
	case s.Type == "linear" || wave > original/s.LowFreqFactor:
		return f / s.Factor
	case wave < original/s.HighFreqFactor:
		return f
	}
	smooth := (original/wave - s.LowFreqFactor) / (s.HighFreqFactor - s.LowFreqFactor)
	return (1-smooth)*f/s.Factor + smooth*f
}

// plainRotate turns the pairs (x[i], x[i+h/2]) as complex numbers.
func plainRotate(r Rope, position int, x []float64) []float64 {
	half := len(x) / 2
	out := make([]float64, len(x))
	for i := range half {
		angle := float64(position) * plainFrequency(r, i, len(x))
		turned := complex(x[i], x[i+half]) * complex(math.Cos(angle), math.Sin(angle))
		out[i], out[i+half] = real(turned), imag(turned)
	}
	return out
}

func (p plain) embed(r plainRow, i int) []float64 {
	c := p.cfg
	from := func(table string, row int) []float64 { return p.weights[table][row*c.Hidden : (row+1)*c.Hidden] }
	x := from(p.name("transformer.wte.weight", "model.embed_tokens.weight"), int(r.tokens[i]))
	if c.Positions == Learned {
		x = sum(x, from(p.name("transformer.wpe.weight", "model.embed_positions.weight"), r.position(i)))
	}
	if c.EmbeddingNorm {
		x = p.norm(NormPlain, "", x)
	}
	return x
}

func sum(a, b []float64) []float64 {
	out := make([]float64, len(a))
	for i := range a {
		out[i] = a[i] + b[i]
	}
	return out
}

// heads returns the queries, keys and values of a token, normed and rotated.
func (p plain) heads(prefix string, x []float64, position int) (q, k, v [][]float64) {
	c := p.cfg
	var all [3][]float64
	if c.Architecture == "gpt2" {
		fused := p.linear(prefix+"attn.c_attn", x)
		all = [3][]float64{fused[:c.Hidden], fused[c.Hidden : 2*c.Hidden], fused[2*c.Hidden:]}
	} else {
		for i, name := range []string{"q", "k", "v"} {
			all[i] = p.linear(prefix+"self_attn."+name+"_proj", x)
		}
	}
	split := func(x []float64, norm string) (out [][]float64) {
		for at := 0; at < len(x); at += c.HeadDim {
			head := x[at : at+c.HeadDim]
			if norm != "" {
				head = p.norm(c.QKNorm, prefix+"self_attn."+norm, head)
				if c.Positions == Rotary {
					head = plainRotate(c.Rope, position, head)
				}
			}
			out = append(out, head)
		}
		return out
	}
	return split(all[0], "q_norm"), split(all[1], "k_norm"), split(all[2], "")
}

// plainAttend is softmax(q·k / √h) over the seen keys times the values, for one query.
func plainAttend(q []float64, keys, values [][]float64) []float64 {
	scores, largest := make([]float64, len(keys)), math.Inf(-1)
	for j, k := range keys {
		scores[j] = dot(q, k) / math.Sqrt(float64(len(q)))
		largest = max(largest, scores[j])
	}
	out, total := make([]float64, len(values[0])), 0.0
	for j := range keys {
		e := math.Exp(scores[j] - largest)
		total += e
		for i, v := range values[j] {
			out[i] += e * v
		}
	}
	for i := range out {
		out[i] /= total
	}
	return out
}

func (p plain) attention(prefix string, xs [][]float64, r plainRow) [][]float64 {
	c := p.cfg
	q, k, v := make([][][]float64, len(xs)), make([][][]float64, len(xs)), make([][][]float64, len(xs))
	for i, x := range xs {
		q[i], k[i], v[i] = p.heads(prefix, x, r.position(i))
	}
	out := make([][]float64, len(xs))
	for i := range xs {
		var merged []float64
		for head := range c.Heads {
			group := head * c.KVHeads / c.Heads
			var keys, values [][]float64
			for j := range xs {
				if r.sees(i, j, c.SlidingWindow) {
					keys, values = append(keys, k[j][group]), append(values, v[j][group])
				}
			}
			merged = append(merged, plainAttend(q[i][head], keys, values)...)
		}
		out[i] = p.linear(prefix+p.name("attn.c_proj", "self_attn.o_proj"), merged)
	}
	return out
}

func (p plain) mlp(prefix string, x []float64) []float64 {
	curve := plainCurves[p.cfg.Activation]
	h := p.linear(prefix+p.name("mlp.c_fc", "mlp.up_proj"), x)
	if p.cfg.Gated {
		h = products(each(curve, p.linear(prefix+"mlp.gate_proj", x)), h)
	} else {
		h = each(curve, h)
	}
	return p.linear(prefix+p.name("mlp.c_proj", "mlp.down_proj"), h)
}

// logits returns the logits of every token of a row.
func (p plain) logits(r plainRow) (out [][]float64) {
	c := p.cfg
	xs := make([][]float64, len(r.tokens))
	for i := range xs {
		xs[i] = p.embed(r, i)
	}
	for layer := range c.Layers {
		prefix := fmt.Sprintf(p.name("transformer.h.%d.", "model.layers.%d."), layer)
		normed := make([][]float64, len(xs))
		for i, x := range xs {
			normed[i] = p.norm(c.Norm, prefix+p.name("ln_1", "input_layernorm"), x)
		}
		for i, y := range p.attention(prefix, normed, r) {
			xs[i] = sum(xs[i], y)
			xs[i] = sum(xs[i], p.mlp(prefix, p.norm(c.Norm, prefix+p.name("ln_2", "post_attention_layernorm"), xs[i])))
		}
	}
	head := "lm_head"
	if c.TiedEmbeddings {
		head = strings.TrimSuffix(p.name("transformer.wte.weight", "model.embed_tokens.weight"), ".weight")
	}
	for _, x := range xs {
		out = append(out, p.linear(head, p.norm(c.Norm, p.name("transformer.ln_f", "model.norm"), x)))
	}
	return out
}

// plainCrossEntropy is -log softmax(logits)[target].
func plainCrossEntropy(logits []float64, target int32) float64 {
	total := 0.0
	for _, x := range logits {
		total += math.Exp(x - logits[target])
	}
	return math.Log(total)
}
