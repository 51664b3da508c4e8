package layout

// Signatures of what a zip archive consists of (APPNOTE.TXT, section 4.3).
const (
	zipSignature = 4 // bytes of each

	zipLocal      = "PK\x03\x04" // the header of a member, before its bytes
	zipDescriptor = "PK\x07\x08" // checksum and sizes of a member, after them
	zipCentral    = "PK\x01\x02" // the directory, which ends the file
	zipEnd        = "PK\x05\x06"
	zipEnd64      = "PK\x06\x06"
	zipLocator64  = "PK\x06\x07"
)

// Sizes of their fixed parts, in bytes.
const (
	zipLocalSize   = 30
	zipCentralSize = 46
	zipEndSize     = 22
	zipEnd64Size   = 56
	zipLocatorSize = 20
)
