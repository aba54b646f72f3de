package vector

import (
	"math"
	"unsafe"
)

const (
	// partials is the number of partial results in a row: element c belongs to number c%partials.
	partials = 64
	// rowBlock is the number of columns after which a sum starts anew: a partial sum then has 64 terms. A multiple of partials.
	rowBlock = 4096
)

func genericReduce(k *Kernels) {
	k.SumRows = func(dst, x unsafe.Pointer, rows, cols int) { inBlocks(sumRows, dst, x, rows, cols) }
	k.DotRows = func(dst, a, b unsafe.Pointer, rows, cols int) { inBlocks2(dotRows, dst, a, b, rows, cols) }
	k.ProdRows = reduceRows(1, func(a, b float32) float32 { return a * b })
	k.MaxRows = reduceRows(float32(math.Inf(-1)), func(a, b float32) float32 { return max(a, b) })
	k.MinRows = reduceRows(float32(math.Inf(1)), func(a, b float32) float32 { return min(a, b) })
	k.AddColumns, k.MaxColumns, k.MinColumns = columns(add[float32]), columns(larger[float32]), columns(smaller[float32])
	k.MulAddColumns = func(dst, w, x unsafe.Pointer, rows, cols int) {
		for r := range rows {
			row := unsafe.Add(x, 4*r*cols)
			mulAdd(dst, row, unsafe.Add(w, 4*r), dst, cols, 0, 1)
		}
	}
}

// fold combines the partial results: number i with i+32, then with i+16, and so on.
func fold(p *[partials]float32, op func(a, b float32) float32) float32 {
	for half := partials / 2; half > 0; half /= 2 {
		for i := range half {
			p[i] = op(p[i], p[i+half])
		}
	}
	return p[0]
}

func reduceRows(start float32, op func(a, b float32) float32) RowsFunc {
	return func(dst, x unsafe.Pointer, rows, cols int) {
		d := slice[float32](dst, rows)
		for r := range d {
			var p [partials]float32
			for i := range p {
				p[i] = start
			}
			for c, v := range slice[float32](unsafe.Add(x, 4*r*cols), cols) {
				p[c%partials] = op(p[c%partials], v)
			}
			d[r] = fold(&p, op)
		}
	}
}

func sumRows(dst, x unsafe.Pointer, rows, cols int) {
	d := slice[float32](dst, rows)
	for r := range d {
		var p [partials]float32
		for c, v := range slice[float32](unsafe.Add(x, 4*r*cols), cols) {
			p[c%partials] += v
		}
		d[r] = fold(&p, plus)
	}
}

func dotRows(dst, a, b unsafe.Pointer, rows, cols int) {
	d := slice[float32](dst, rows)
	for r := range d {
		var p [partials]float32
		y := slice[float32](unsafe.Add(b, 4*r*cols), cols)
		for c, v := range slice[float32](unsafe.Add(a, 4*r*cols), cols) {
			p[c%partials] = fma(v, y[c], p[c%partials])
		}
		d[r] = fold(&p, plus)
	}
}

func plus(a, b float32) float32 { return a + b }

// inBlocks sums rows of any length through a kernel for rows of at most rowBlock columns.
func inBlocks(short RowsFunc, dst, x unsafe.Pointer, rows, cols int) {
	if cols <= rowBlock {
		short(dst, x, rows, cols)
		return
	}
	for r, d := 0, slice[float32](dst, rows); r < rows; r++ {
		row := unsafe.Add(x, 4*r*cols)
		d[r] = pairwise(cols, func(to *float32, from, n int) {
			short(unsafe.Pointer(to), unsafe.Add(row, 4*from), 1, n)
		})
	}
}

// inBlocks2 is inBlocks for two sources.
func inBlocks2(short func(dst, a, b unsafe.Pointer, rows, cols int), dst, a, b unsafe.Pointer, rows, cols int) {
	if cols <= rowBlock {
		short(dst, a, b, rows, cols)
		return
	}
	for r, d := 0, slice[float32](dst, rows); r < rows; r++ {
		left, right := unsafe.Add(a, 4*r*cols), unsafe.Add(b, 4*r*cols)
		d[r] = pairwise(cols, func(to *float32, from, n int) {
			short(unsafe.Pointer(to), unsafe.Add(left, 4*from), unsafe.Add(right, 4*from), 1, n)
		})
	}
}

// pairwise adds what block computes for each rowBlock of n columns: neighbours first, then neighbouring sums, and so on. It
// keeps one sum for each power of two, as a binary counter does.
func pairwise(n int, block func(to *float32, from, n int)) float32 {
	var waiting [64]float32
	count := 0
	var last float32
	for from := 0; from < n; from += rowBlock {
		block(&last, from, min(rowBlock, n-from))
		sum := last
		level := 0
		for c := count; c&1 == 1; c >>= 1 {
			sum = waiting[level] + sum
			level++
		}
		waiting[level] = sum
		count++
	}
	total, some := float32(0), false
	for level := 0; count>>level > 0; level++ {
		switch {
		case count>>level&1 == 0:
		case some:
			total = waiting[level] + total
		default:
			total, some = waiting[level], true
		}
	}
	return total
}

func columns(op BinaryFunc) RowsFunc {
	return func(dst, x unsafe.Pointer, rows, cols int) {
		for r := range rows {
			op(dst, dst, unsafe.Add(x, 4*r*cols), cols)
		}
	}
}
