package data

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode"
	"unicode/utf8"
)

// pieceBytes is how much plain text is encoded at once. Pieces end behind a line break between two characters that are not
// spaces, where byte-level and WordPiece tokenizers split anyway; in text without one they end before a space, else between
// two characters.
const pieceBytes = 1 << 20

var utf8BOM = []byte("\xef\xbb\xbf")

// textPieces calls each with the consecutive pieces of r and the number of the line each begins in.
func textPieces(r io.Reader, size int, each func(piece string, line int64) error) error {
	buffer := make([]byte, 0, size)
	line, first := int64(1), true
	for {
		n, err := io.ReadFull(r, buffer[len(buffer):cap(buffer)])
		buffer = buffer[:len(buffer)+n]
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return err
		}
		if first {
			if bytes.HasPrefix(buffer, []byte("\xff\xfe")) || bytes.HasPrefix(buffer, []byte("\xfe\xff")) {
				return errors.New("the text is UTF-16; convert it to UTF-8 first")
			}
			buffer, first = append(buffer[:0], bytes.TrimPrefix(buffer, utf8BOM)...), false
		}
		cut := len(buffer)
		if !last {
			cut = cutPoint(buffer)
		}
		piece := buffer[:cut]
		if at := invalidAt(piece); at >= 0 {
			return lineError{line + int64(bytes.Count(piece[:at], []byte("\n"))), fmt.Errorf("byte 0x%02x is not UTF-8; convert the text first", piece[at])}
		}
		if cut > 0 {
			if err := each(string(piece), line); err != nil {
				return err
			}
		}
		line += int64(bytes.Count(piece, []byte("\n")))
		if last {
			return nil
		}
		buffer = append(buffer[:0], buffer[cut:]...)
	}
}

// cutPoint is where a full buffer is cut: in its second half if a good place is there, never inside a character.
func cutPoint(b []byte) int {
	for _, here := range []func(i int) bool{
		func(i int) bool { return i >= 2 && b[i-1] == '\n' && !spaceBefore(b, i-1) && !spaceAt(b, i) },
		func(i int) bool { return b[i] == ' ' && !spaceBefore(b, i) },
	} {
		for i := len(b) - utf8.UTFMax; i > len(b)/2; i-- {
			if here(i) {
				return i
			}
		}
	}
	return max(completeRunes(b), 1)
}

func spaceAt(b []byte, i int) bool {
	r, _ := utf8.DecodeRune(b[i:])
	return unicode.IsSpace(r)
}

func spaceBefore(b []byte, i int) bool {
	r, _ := utf8.DecodeLastRune(b[:i])
	return unicode.IsSpace(r)
}

// invalidAt is the index of the first byte that is not UTF-8, -1 where all is.
func invalidAt(b []byte) int {
	if utf8.Valid(b) {
		return -1
	}
	for i := 0; i < len(b); {
		r, size := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

// lineError is an error in a numbered line (or row) of a file.
type lineError struct {
	line int64
	err  error
}

func (e lineError) Error() string { return e.err.Error() }
func (e lineError) Unwrap() error { return e.err }
