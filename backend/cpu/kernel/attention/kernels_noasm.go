//go:build !amd64 || noasm

package attention

func (p *Plan) mul(x *product) {
	x.check()
	x.generic()
}

func (p *Plan) max(s []float32, rows int, m []float32) { maxGeneric(s, rows, m) }

func (p *Plan) exp(s []float32, rows int, m, l []float32) { expGeneric(s, rows, m, l) }

func (p *Plan) grad(s, d []float32, rows int, m, delta []float32) { gradGeneric(s, d, rows, m, delta) }

func (p *Plan) scale(s []float32, rows int, factors []float32) { scaleGeneric(s, rows, factors) }

func (p *Plan) hide(s []float32, rows int, bits []uint32, shift int) {
	hideGeneric(s, rows, bits, shift)
}

func (p *Plan) dots(x, y []float32, rows int, sums []float32) { dotsGeneric(x, y, rows, sums) }

func (p *Plan) tile() int { return 0 }

func (p *Plan) transposeTile([]float32, int, []float32, int, []float32) { panic("no tiles") }
