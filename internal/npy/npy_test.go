package npy

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestReadsWhatNumPyWrites: the files of testdata/make.py, C and Fortran order, both widths and byte orders, all versions.
func TestReadsWhatNumPyWrites(t *testing.T) {
	cube := make([]float64, 24)
	for i := range cube {
		cube[i] = float64(i) / 8
	}
	for _, c := range []struct {
		file   string
		shape  []int
		want   []float64
		double bool
	}{
		{"c_f8.npy", []int{2, 3, 4}, cube, true},
		{"c_f4.npy", []int{2, 3, 4}, cube, false},
		{"fortran_f4.npy", []int{2, 3, 4}, cube, false},
		{"fortran_big_f8.npy", []int{2, 3, 4}, cube, true},
		{"v2_f4.npy", []int{2, 3, 4}, cube, false},
		{"v3_f4.npy", []int{2, 3, 4}, cube, false},
		{"scalar.npy", []int{}, []float64{0.5}, false},
		{"empty.npy", []int{3, 0}, []float64{}, false},
	} {
		t.Run(c.file, func(t *testing.T) {
			f, err := Open(filepath.Join("testdata", c.file))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if !slices.Equal(f.Shape(), c.shape) || f.Double() != c.double {
				t.Fatalf("shape %v, float64 %v; want %v, %v", f.Shape(), f.Double(), c.shape, c.double)
			}
			wide, narrow := make([]float64, len(c.want)), make([]float32, len(c.want))
			if err := Read(f, wide); err != nil || !slices.Equal(wide, c.want) {
				t.Errorf("float64: %v, %v", wide, err)
			}
			if err := Read(f, narrow); err != nil {
				t.Error(err)
			}
			for i, got := range narrow {
				if float64(got) != c.want[i] {
					t.Fatalf("float32: %v", narrow)
				}
			}
			if Read(f, make([]float32, len(c.want)+1)) == nil {
				t.Error("a destination of another size was filled")
			}
		})
	}
}

// TestChunks: an array longer than what is read at once, in Fortran order, lands where it belongs.
func TestChunks(t *testing.T) {
	const m, n = 300, chunk/200 + 1
	data := make([]byte, 0, 4*m*n)
	for j := range n {
		for i := range m {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(float32(i*n+j)))
		}
	}
	f, err := Open(array(t, "{'descr': '<f4', 'fortran_order': True, 'shape': ("+ShapeText([]int{m, n})[1:]+", }\n", data))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := make([]float32, m*n)
	if err := Read(f, got); err != nil {
		t.Fatal(err)
	}
	for i, x := range got {
		if x != float32(i) {
			t.Fatalf("element %d is %v", i, x)
		}
	}
}

// TestWriteReadsBack: bit for bit, also what is not finite, with aligned elements.
func TestWriteReadsBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.npy")
	data := []float32{0, float32(math.Copysign(0, -1)), 1e-45, math.MaxFloat32, float32(math.Inf(-1)), -3}
	for _, shape := range [][]int{{6}, {2, 3}, {1, 1, 6, 1}} {
		if err := Write(path, shape, data); err != nil {
			t.Fatal(err)
		}
		f, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]float32, len(data))
		if err := Read(f, got); err != nil || !slices.Equal(f.Shape(), shape) || f.start%64 != 0 {
			t.Errorf("shape %v, elements at byte %d, %v", f.Shape(), f.start, err)
		}
		for i := range data {
			if math.Float32bits(got[i]) != math.Float32bits(data[i]) {
				t.Errorf("element %d is %v, want %v", i, got[i], data[i])
			}
		}
		f.Close()
	}
	if err := Write(path, []int{7}, data); err == nil {
		t.Error("written with a shape of another size")
	}
}

// array writes a version 1 file and returns its path.
func array(t testing.TB, header string, data []byte) string {
	t.Helper()
	content := append([]byte(magic+"\x01\x00"), binary.LittleEndian.AppendUint16(nil, uint16(len(header)))...)
	return written(t, append(append(content, header...), data...))
}

func written(t testing.TB, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.npy")
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestRefuses: one line that names the file and what is wrong, before anything large is allocated.
func TestRefuses(t *testing.T) {
	good, err := os.ReadFile(filepath.Join("testdata", "c_f4.npy"))
	if err != nil {
		t.Fatal(err)
	}
	huge := append([]byte(magic+"\x02\x00"), 0xff, 0xff, 0xff, 0x7f)
	long := slices.Concat([]byte(magic+"\x02\x00"), binary.LittleEndian.AppendUint32(nil, maxHeader+1), make([]byte, maxHeader+1))
	dict := func(descr, order, shape string) string {
		return array(t, "{'descr': "+descr+", 'fortran_order': "+order+", 'shape': "+shape+", }\n", make([]byte, 8))
	}
	for _, c := range []struct{ name, path, want string }{
		{"missing", filepath.Join(t.TempDir(), "none.npy"), "no such file"},
		{"folder", t.TempDir(), "folder"},
		{"empty", written(t, nil), "not a .npy file"},
		{"text", written(t, []byte("1 2 3\n4 5 6\n")), "not a .npy file"},
		{"zip", filepath.Join("testdata", "archive.npz"), ".npz"},
		{"magic only", written(t, []byte(magic+"\x01\x00")), "truncated"},
		{"version", written(t, append([]byte(magic+"\x04\x00"), good[8:]...)), "version 4"},
		{"huge header", written(t, huge), "truncated"},
		{"long header", written(t, long), "limit"},
		{"half a header", written(t, good[:40]), "truncated"},
		{"truncated", written(t, good[:len(good)-1]), "takes 96 bytes, the file holds 95: truncated"},
		{"more", written(t, append(slices.Clone(good), 0)), "more follows"},
		{"integers", filepath.Join("testdata", "int64.npy"), `"<i8" (integers), want float32 or float64`},
		{"objects", filepath.Join("testdata", "object.npy"), `"|O" (Python objects)`},
		{"records", filepath.Join("testdata", "record.npy"), "records"},
		{"half precision", dict("'<f2'", "False", "(4,)"), `"<f2" (floating point numbers of another width)`},
		{"no type", dict("''", "False", "(2,)"), `dtype is ""`},
		{"shape beyond memory", dict("'<f4'", "False", "(4611686018427387904, 8)"), "too large"},
		{"shape beyond int", dict("'<f4'", "False", "(99999999999999999999,)"), "malformed"},
		{"large shape", dict("'<f4'", "False", "(99999999999,)"), "truncated"},
		{"negative shape", dict("'<f4'", "False", "(-1,)"), "malformed"},
		{"no tuple", dict("'<f4'", "False", "2"), "malformed"},
		{"no order", dict("'<f4'", "None", "(2,)"), "malformed"},
		{"a key twice", dict("'<f4', 'descr': '<f4'", "False", "(2,)"), "each once"},
		{"a key missing", array(t, "{'descr': '<f4', 'shape': (2,)}", make([]byte, 8)), "each once"},
		{"an unknown key", dict("'<f4', 'x': 1", "False", "(2,)"), `unknown key "x"`},
		{"no dictionary", array(t, "[]", nil), "no dictionary"},
		{"no end", array(t, "{'descr': '<f4'", nil), "malformed"},
		{"no comma", array(t, "{'descr': '<f4' 'shape': (2,)}", nil), "comma"},
		{"more than a dictionary", array(t, "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} x", make([]byte, 8)), "more follows"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := Open(c.path)
			if err == nil {
				f.Close()
				t.Fatal("opened")
			}
			if text := err.Error(); !strings.Contains(text, c.want) || !strings.Contains(text, c.path) || strings.Contains(text, "\n") {
				t.Errorf("error %q, want one line naming %s and %q", text, c.path, c.want)
			}
		})
	}
}

// TestAccepts other ways to write the same dictionary.
func TestAccepts(t *testing.T) {
	for _, text := range []string{
		`{'shape': (2,), 'fortran_order': True, 'descr': '<f4'}`,
		`{"descr":"=f4","fortran_order":False,"shape":(1,2,)}`,
		"{ 'descr' : 'f4' ,\n 'fortran_order' : False , 'shape' : ( 2L , 1L ) , }   \n",
	} {
		f, err := Open(array(t, text, make([]byte, 8)))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		f.Close()
	}
}

// FuzzOpen holds that no content makes the reader panic or allocate beyond the file's size, and that what it accepts it can
// read.
func FuzzOpen(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "*.npy"))
	if err != nil || len(files) == 0 {
		f.Fatal(err)
	}
	for _, path := range files {
		content, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		file, err := Open(written(t, content))
		if err != nil {
			return
		}
		defer file.Close()
		elements := 1
		for _, dim := range file.Shape() {
			elements *= dim
		}
		if elements > len(content) {
			t.Fatalf("accepted %d elements in %d bytes", elements, len(content))
		}
		if err := Read(file, make([]float64, elements)); err != nil {
			t.Fatalf("accepted but cannot read: %v", err)
		}
	})
}
