package model

// Workload is what Estimate estimates: one forward and backward pass.
type Workload struct {
	Rows, Length int  // of a micro-batch
	Rank         int  // of the pairs on all linear layers; 0: all weights train
	Scratch      bool // the pairs are the weights, with no base
	Checkpoint   bool // activations are recomputed
}

// Cost is an estimate.
type Cost struct {
	Bytes int64   // peak memory: weights, gradients, optimizer state, activations
	Flops float64 // floating-point operations of products in a forward and backward pass
	// Elements is how many numbers of activations a forward pass computes beside the products: what its element by element
	// operations, and the backward pass's, take time for.
	Elements float64
}

// Beside the arrays in use: garbage not yet collected, at the program's setting of 20 %, and the program, the tokenizer and the
// compiled graphs.
const (
	garbage      = 1.2
	programBytes = 150 << 20
)

// Estimate estimates what training a decoder costs. It counts the arrays that the graphs of this package keep and the
// operations of their products, and adds what the collector leaves lying and the program itself. For SmolLM2-135M at rank 16 on
// 4 rows of 256 tokens the memory is 5 % above what was measured, with Checkpoint 4 % below (bench/results/finetune.md).
func Estimate(d *Decoder, w Workload) Cost {
	c := d.cfg
	tokens := float64(w.Rows * w.Length)
	var linear, fan float64 // weights of the linear layers, and the sum of their fan-outs and fan-ins
	for _, layer := range d.layers {
		linear += float64(layer.FanOut) * float64(layer.FanIn)
		fan += float64(layer.FanOut + layer.FanIn)
	}
	rank := float64(w.Rank)
	trained := fan * rank
	forward, backward := 1.0, 1.0 // products a layer; the second one backward is the gradient of weights that train
	if w.Rank == 0 {
		trained, backward = float64(d.Size()), 2
	}
	base := linear
	if w.Scratch {
		base = 0
	}
	if w.Checkpoint {
		forward++
	}
	head := float64(c.VocabSize) * float64(c.Hidden)
	scores := d.scores(w.Length) * float64(w.Rows)
	products := (forward+backward)*2*base*tokens + (forward+2)*2*fan*rank*tokens + (1+backward)*2*head*tokens
	attention := (forward + 2) * 2 * 2 * scores * float64(c.HeadDim) * float64(c.Layers)
	block := tokens*float64(8*c.Hidden+2*(c.Heads+c.KVHeads)*c.HeadDim+6*c.Intermediate) + scores
	kept := block * float64(c.Layers)
	elements := kept + tokens*float64(c.VocabSize)
	if w.Checkpoint {
		elements += kept / 2 // the forward pass's share, again
		kept = block + tokens*float64(c.Hidden*c.Layers)
	}
	logits := 3 * min(float64(maxLogits), tokens*float64(c.VocabSize))
	weights := float64(d.Size()) - linear + base
	return Cost{
		Bytes: programBytes + int64(garbage*4*(weights+4*trained+kept+logits)),
		Flops: products + attention, Elements: elements,
	}
}

// scores is how many attention scores a layer computes for a row, all heads together.
func (d *Decoder) scores(length int) float64 {
	total := 0
	rows := blockRows(length)
	for from := 0; from < length; from += rows {
		to, first := min(from+rows, length), 0
		if d.cfg.SlidingWindow > 0 {
			first = max(0, from-d.cfg.SlidingWindow+1)
		}
		total += (to - from) * (to - first)
	}
	return float64(total * d.cfg.Heads)
}
