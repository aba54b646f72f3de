package vector

import (
	"math/rand/v2"
	"testing"
	"unsafe"
)

// benchLanes is a tile of 8 KB: three of them fit the level 1 cache.
const benchLanes = 2048

// perNano reports lanes a nanosecond.
func perNano(b *testing.B, lanes int) {
	b.ReportMetric(float64(lanes)*float64(b.N)/float64(b.Elapsed().Nanoseconds()), "lanes/ns")
}

func benchData() (x, y, d []float32) {
	r := rand.New(rand.NewPCG(1, 1))
	x, y, d = make([]float32, benchLanes), make([]float32, benchLanes), make([]float32, benchLanes)
	for i := range x {
		x[i], y[i] = float32(r.NormFloat64()), 0.5+r.Float32()
	}
	return x, y, d
}

func BenchmarkElementwise(b *testing.B) {
	x, y, d := benchData()
	px, py, pd := unsafe.Pointer(&x[0]), unsafe.Pointer(&y[0]), unsafe.Pointer(&d[0])
	run := func(name string, f func()) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				f()
			}
			perNano(b, benchLanes)
		})
	}
	for _, level := range levelsHere() {
		k := For(level)
		for op := range Count {
			name := op.String() + "/" + level.String()
			if f := k.Unary[op]; f != nil {
				in := px
				if op == Log || op == Log1p || op == Sqrt || op == Rsqrt {
					in = py
				}
				run(name, func() { f(pd, in, benchLanes) })
				continue
			}
			vv, vs := k.VV[op], k.VS[op]
			run(name+"/VV", func() { vv(pd, px, py, benchLanes) })
			run(name+"/VS", func() { vs(pd, px, py, benchLanes) })
		}
		name := "/" + level.String()
		run("Select"+name, func() { k.Select(pd, px, px, py, benchLanes) })
		run("MulAddVVV"+name, func() { k.MulAddVVV(pd, px, py, px, benchLanes) })
		run("MulAddVSS"+name, func() { k.MulAddVSS(pd, px, py, px, benchLanes) })
		run("FloatFromBF16"+name, func() { k.FloatFromBF16(pd, px, benchLanes) })
		run("BF16FromFloat"+name, func() { k.BF16FromFloat(pd, px, benchLanes) })
		run("MaskFromBool"+name, func() { k.MaskFromBool(pd, px, benchLanes) })
		run("BoolFromMask"+name, func() { k.BoolFromMask(pd, px, benchLanes) })
		run("Fill"+name, func() { k.Fill(pd, px, benchLanes) })
		run("ShortAdd16"+name, func() { k.VV[Add](pd, px, py, 16) })
	}
}

func BenchmarkReduce(b *testing.B) {
	x, y, d := benchData()
	px, py, pd := unsafe.Pointer(&x[0]), unsafe.Pointer(&y[0]), unsafe.Pointer(&d[0])
	for _, level := range levelsHere() {
		k := For(level)
		for _, shape := range []struct {
			name       string
			rows, cols int
		}{{"1x2048", 1, 2048}, {"8x256", 8, 256}, {"32x64", 32, 64}, {"128x16", 128, 16}} {
			for name, f := range map[string]func(){
				"SumRows":       func() { k.SumRows(pd, px, shape.rows, shape.cols) },
				"MaxRows":       func() { k.MaxRows(pd, px, shape.rows, shape.cols) },
				"DotRows":       func() { k.DotRows(pd, px, py, shape.rows, shape.cols) },
				"AddColumns":    func() { k.AddColumns(pd, px, shape.rows, shape.cols) },
				"MaxColumns":    func() { k.MaxColumns(pd, px, shape.rows, shape.cols) },
				"MulAddColumns": func() { k.MulAddColumns(pd, py, px, shape.rows, shape.cols) },
				"Repeat":        func() { k.Repeat(pd, px, shape.rows, shape.cols) },
				"Tile":          func() { k.Tile(pd, px, shape.rows, shape.cols) },
				"Copy2D":        func() { k.Copy2D(pd, px, shape.rows, shape.cols, shape.cols, shape.cols) },
				"Transpose2D":   func() { k.Transpose2D(pd, px, shape.rows, shape.cols, shape.rows, shape.cols) },
			} {
				b.Run(name+"/"+shape.name+"/"+level.String(), func(b *testing.B) {
					for b.Loop() {
						f()
					}
					perNano(b, benchLanes)
				})
			}
		}
	}
}

func BenchmarkTranspose(b *testing.B) {
	for _, n := range []int{256, 1000, 1024, 2048} {
		x, d := make([]float32, n*n), make([]float32, n*n)
		for _, level := range levelsHere() {
			b.Run(level.String(), func(b *testing.B) {
				for b.Loop() {
					For(level).Transpose2D(unsafe.Pointer(&d[0]), unsafe.Pointer(&x[0]), n, n, n, n)
				}
				perNano(b, n*n)
			})
		}
	}
}
