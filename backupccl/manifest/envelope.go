package manifest

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// maxMessageBytes bounds a manifest as read: gzip could make a terabyte of a
// kilobyte.
const maxMessageBytes = 1 << 30

// gzipExtraID marks our subfield in the gzip header; 32 bytes of SHA-256 of the
// uncompressed message follow it and their length.
var gzipExtraID = [2]byte{'H', 'F'}

// seal serializes and compresses m. The hash of the message travels in the gzip
// header, so a file proves itself; gzip's own CRC guards only against accidents.
func seal(m proto.Message) ([]byte, error) {
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(raw)
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	w.Extra = append([]byte{gzipExtraID[0], gzipExtraID[1], sha256.Size, 0}, sum[:]...)
	if _, err := w.Write(raw); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// unseal is the inverse of seal and checks the hash. what names the file.
func unseal(what string, b []byte, m proto.Message) error {
	if bytes.HasPrefix(b, []byte("encrypt")) {
		return pgerr.New(pgerr.InvalidParameterValue,
			`file appears encrypted -- try specifying one of "encryption_passphrase" or "kms"`)
	}
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return pgerr.Newf(pgerr.DataCorrupted, "%s is damaged: %w", what, err)
	}
	raw, err := io.ReadAll(io.LimitReader(r, maxMessageBytes+1))
	if err != nil {
		return pgerr.Newf(pgerr.DataCorrupted, "%s is damaged: %w", what, err)
	}
	if len(raw) > maxMessageBytes {
		return pgerr.Newf(pgerr.DataCorrupted, "%s is damaged: it unpacks to more than %d bytes", what, maxMessageBytes)
	}
	if e := r.Extra; len(e) == 4+sha256.Size && e[0] == gzipExtraID[0] && e[1] == gzipExtraID[1] {
		if sum := sha256.Sum256(raw); !bytes.Equal(sum[:], e[4:]) {
			return errChecksum(what, e[4:], sum[:])
		}
	} else {
		return pgerr.Newf(pgerr.DataCorrupted, "%s is damaged: it carries no checksum of its content", what)
	}
	if err := proto.Unmarshal(raw, m); err != nil {
		return pgerr.Newf(pgerr.DataCorrupted, "%s is damaged: %w", what, err)
	}
	return nil
}

func errChecksum(what string, want, got []byte) error {
	return pgerr.Newf(pgerr.DataCorrupted, "%s: checksum mismatch; expected %s, got %s",
		what, hex.EncodeToString(want), hex.EncodeToString(got))
}

func checkSHA256(what string, want, b []byte) error {
	if sum := sha256.Sum256(b); !bytes.Equal(sum[:], want) {
		return errChecksum(what, want, sum[:])
	}
	return nil
}

func fmtID(id []byte) string {
	if len(id) != 16 {
		return hex.EncodeToString(id)
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[0:4], id[4:6], id[6:8], id[8:10], id[10:16])
}
