package npy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// magic begins every file; a major and a minor version follow.
const magic = "\x93NUMPY"

// maxHeader bounds the header's length. A plain array's is about 100 bytes; NumPy itself refuses more than 10,000 by default.
const maxHeader = 1 << 16

// header is what the dictionary says.
type header struct {
	order   binary.ByteOrder
	double  bool // float64, else float32
	fortran bool
	shape   []int
}

// itemSize returns the bytes of an element.
func (h header) itemSize() int64 {
	if h.double {
		return 8
	}
	return 4
}

// dataSize returns the bytes that the elements take, or an error if no file can hold them.
func (h header) dataSize() (int64, error) {
	size := h.itemSize()
	for _, dim := range h.shape {
		if dim > 0 && size > math.MaxInt64/int64(dim) {
			return 0, fmt.Errorf("shape %s is too large", ShapeText(h.shape))
		}
		size *= int64(dim)
	}
	return size, nil
}

// readHeader reads the header of a file of size bytes; start is where the elements begin.
func readHeader(file io.ReaderAt, size int64) (h header, start int64, err error) {
	var prefix [12]byte
	n, err := file.ReadAt(prefix[:], 0)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return header{}, 0, err
	case n >= 4 && string(prefix[:4]) == "PK\x03\x04":
		return header{}, 0, errors.New("is a zip archive (.npz?), want one array saved with numpy.save")
	case n < len(magic) || string(prefix[:len(magic)]) != magic:
		return header{}, 0, errors.New("is not a .npy file: its first bytes are not NumPy's")
	case n < len(prefix):
		return header{}, 0, fmt.Errorf("is %d bytes long, truncated in its header", n)
	}
	var length int64
	switch major := prefix[6]; major {
	case 1:
		start, length = 10, int64(binary.LittleEndian.Uint16(prefix[8:]))
	case 2, 3:
		start, length = 12, int64(binary.LittleEndian.Uint32(prefix[8:]))
	default:
		return header{}, 0, fmt.Errorf("is of .npy version %d, want 1, 2 or 3", major)
	}
	if length > size-start {
		return header{}, 0, fmt.Errorf("its header claims %d bytes but only %d follow: truncated", length, size-start)
	}
	if length > maxHeader {
		return header{}, 0, fmt.Errorf("its header claims %d bytes, more than the limit of %d", length, maxHeader)
	}
	text := make([]byte, length)
	if _, err := file.ReadAt(text, start); err != nil {
		return header{}, 0, err
	}
	h, err = parseHeader(string(text))
	return h, start + length, err
}

// parseHeader reads the dictionary {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }, keys in any order.
func parseHeader(text string) (h header, err error) {
	malformed := func(what string) error { return fmt.Errorf("its header is malformed: %s", what) }
	s := &scanner{rest: text}
	if !s.take("{") {
		return header{}, malformed("it is no dictionary")
	}
	seen := map[string]bool{}
	for !s.take("}") {
		key, ok := s.text()
		if !ok || seen[key] || !s.take(":") {
			return header{}, malformed("want 'descr', 'fortran_order' and 'shape', each once")
		}
		seen[key] = true
		switch key {
		case "descr":
			if descr, ok := s.text(); !ok {
				return header{}, errors.New("its elements are records (a structured dtype), want float32 or float64")
			} else if err := h.setType(descr); err != nil {
				return header{}, err
			}
		case "fortran_order":
			if h.fortran = s.take("True"); !h.fortran && !s.take("False") {
				return header{}, malformed("'fortran_order' is neither True nor False")
			}
		case "shape":
			if h.shape, ok = s.tuple(); !ok {
				return header{}, malformed("'shape' is not a tuple of whole numbers")
			}
		default:
			return header{}, malformed(fmt.Sprintf("unknown key %q", key))
		}
		if !s.take(",") && !s.at("}") {
			return header{}, malformed("no comma between its entries")
		}
	}
	if len(seen) != 3 {
		return header{}, malformed("want 'descr', 'fortran_order' and 'shape', each once")
	}
	if strings.TrimSpace(s.rest) != "" {
		return header{}, malformed("more follows its dictionary")
	}
	return h, nil
}

// kinds names the element types that are refused, by the letter of the type string.
var kinds = map[byte]string{
	'i': "integers", 'u': "unsigned integers", 'b': "booleans", 'c': "complex numbers", 'O': "Python objects", 'S': "byte strings",
	'U': "strings", 'V': "raw bytes", 'M': "dates", 'm': "time spans", 'f': "floating point numbers of another width",
}

// setType reads a type string such as <f4: byte order, kind, bytes.
func (h *header) setType(descr string) error {
	order, rest := binary.ByteOrder(binary.LittleEndian), descr
	if descr != "" && strings.ContainsRune("<>=|", rune(descr[0])) {
		if rest = descr[1:]; descr[0] == '>' {
			order = binary.BigEndian
		}
	}
	switch rest {
	case "f4", "f8":
		h.order, h.double = order, rest == "f8"
		return nil
	}
	what := ""
	if rest != "" && kinds[rest[0]] != "" {
		what = " (" + kinds[rest[0]] + ")"
	}
	return fmt.Errorf("its dtype is %q%s, want float32 or float64: convert it with .astype(numpy.float32)", descr, what)
}

// scanner takes the pieces of a Python literal off the front of a text.
type scanner struct{ rest string }

func (s *scanner) skip() { s.rest = strings.TrimLeft(s.rest, " \t\n") }

// at reports whether token is next.
func (s *scanner) at(token string) bool {
	s.skip()
	return strings.HasPrefix(s.rest, token)
}

// take removes token if it is next.
func (s *scanner) take(token string) bool {
	if !s.at(token) {
		return false
	}
	s.rest = s.rest[len(token):]
	return true
}

// text takes a quoted string without escapes.
func (s *scanner) text() (string, bool) {
	for _, quote := range []string{"'", `"`} {
		if !s.take(quote) {
			continue
		}
		value, rest, closed := strings.Cut(s.rest, quote)
		if !closed || strings.ContainsAny(value, "\\\n") {
			return "", false
		}
		s.rest = rest
		return value, true
	}
	return "", false
}

// tuple takes a tuple of whole numbers that are not negative: (), (3,), (2, 3). Python 2 wrote them with an L.
func (s *scanner) tuple() (numbers []int, ok bool) {
	if !s.take("(") {
		return nil, false
	}
	numbers = []int{}
	for !s.take(")") {
		s.skip()
		digits := len(s.rest) - len(strings.TrimLeft(s.rest, "0123456789"))
		number, err := strconv.Atoi(s.rest[:digits])
		if err != nil {
			return nil, false
		}
		numbers, s.rest = append(numbers, number), s.rest[digits:]
		s.take("L")
		if !s.take(",") && !s.at(")") {
			return nil, false
		}
	}
	return numbers, true
}

// ShapeText writes a shape as Python does: (), (3,), (2, 3).
func ShapeText(shape []int) string {
	parts := make([]string, len(shape))
	for i, dim := range shape {
		parts[i] = strconv.Itoa(dim)
	}
	if len(parts) == 1 {
		return "(" + parts[0] + ",)"
	}
	return "(" + strings.Join(parts, ", ") + ")"
}
