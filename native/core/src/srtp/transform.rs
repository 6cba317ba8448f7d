//! Encrypting and authenticating one packet in place (RFC 3711 §4.1.1, §4.2; RFC 7714 §8, §9). Nothing here allocates.

use aes::cipher::consts::U16;
use aes::cipher::{BlockCipherEncrypt, BlockSizeUser, InnerIvInit, KeyInit, StreamCipher, StreamCipherCoreWrapper};
use aes::{Aes128Enc, Aes256Enc};
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use ctr::{flavors, CtrCore};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use zeroize::Zeroizing;

use super::suite::{MasterKey, Purpose, Suite, AUTHENTICATION_KEY};

/// Octets of the longest tag.
pub const TAG: usize = 16;

/// Octets of an RTCP header that stay in the clear (RFC 3711 §3.4): the fixed header and the sender's SSRC.
pub const RTCP_CLEAR: usize = 8;

// Every variant lives in a box of its leg, so their different sizes don't matter.
#[allow(clippy::large_enum_variant)]
enum Cipher {
    Counter128(Aes128Enc, Hmac<Sha1>),
    Counter256(Aes256Enc, Hmac<Sha1>),
    Gcm128(Aes128Gcm),
    Gcm256(Aes256Gcm),
}

/// Session keys of one direction, of RTP or RTCP.
pub struct Transform {
    cipher: Cipher,
    salt: Zeroizing<[u8; 14]>,
    tag_length: usize,
    rtcp: bool,
}

/// What makes a packet's keystream its own.
#[derive(Clone, Copy)]
pub struct Index {
    pub ssrc: u32,
    /// 48 bits of RTP, 31 of RTCP.
    pub index: u64,
}

impl Transform {
    pub fn new(master: &MasterKey, rtcp: bool) -> Option<Self> {
        let suite = master.suite();
        let mut key = Zeroizing::new([0; 32]);
        let key = &mut key[..suite.key_length()];
        master.derive(Purpose::Encryption, rtcp, key);
        let mut authentication = Zeroizing::new([0; AUTHENTICATION_KEY]);
        master.derive(Purpose::Authentication, rtcp, &mut authentication[..]);
        let mut salt = Zeroizing::new([0; 14]);
        master.derive(Purpose::Salt, rtcp, &mut salt[..suite.salt_length()]);
        let tag_length = if rtcp { suite.rtcp_tag_length() } else { suite.tag_length() };
        Self::with_keys(suite, key, &authentication[..], salt, tag_length, rtcp)
    }

    fn with_keys(
        suite: Suite,
        key: &[u8],
        authentication: &[u8],
        salt: Zeroizing<[u8; 14]>,
        tag_length: usize,
        rtcp: bool,
    ) -> Option<Self> {
        let mac = Hmac::<Sha1>::new_from_slice(authentication);
        let cipher = match suite {
            Suite::AesCm128Sha1Tag80 | Suite::AesCm128Sha1Tag32 => {
                Cipher::Counter128(Aes128Enc::new_from_slice(key).ok()?, mac.ok()?)
            }
            Suite::AesCm256Sha1Tag80 | Suite::AesCm256Sha1Tag32 => {
                Cipher::Counter256(Aes256Enc::new_from_slice(key).ok()?, mac.ok()?)
            }
            Suite::AeadAes128Gcm => Cipher::Gcm128(Aes128Gcm::new_from_slice(key).ok()?),
            Suite::AeadAes256Gcm => Cipher::Gcm256(Aes256Gcm::new_from_slice(key).ok()?),
        };
        Some(Self { cipher, salt, tag_length, rtcp })
    }

    pub fn tag_length(&self) -> usize {
        self.tag_length
    }

    /// Is the tag part of the ciphertext, before what else follows it (RFC 7714 §8.2, §9.2)?
    pub fn is_aead(&self) -> bool {
        matches!(self.cipher, Cipher::Gcm128(_) | Cipher::Gcm256(_))
    }

    /// RFC 3711 §4.1.1: salt, SSRC and index, with room for the block counter.
    fn counter_iv(&self, at: Index) -> [u8; 16] {
        let mut iv = [0; 16];
        iv[4..8].copy_from_slice(&at.ssrc.to_be_bytes());
        iv[8..14].copy_from_slice(&at.index.to_be_bytes()[2..]);
        iv.iter_mut().zip(self.salt.iter()).for_each(|(byte, salt)| *byte ^= salt);
        iv
    }

    /// RFC 7714 §8.1, §9.1: two zero octets, SSRC and index, all with the salt on top.
    fn nonce(&self, at: Index) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[2..6].copy_from_slice(&at.ssrc.to_be_bytes());
        nonce[6..].copy_from_slice(&at.index.to_be_bytes()[2..]);
        nonce.iter_mut().zip(self.salt.iter()).for_each(|(byte, salt)| *byte ^= salt);
        nonce
    }

    /// Encrypt all of `packet` but its first `clear` octets and return the tag.
    ///
    /// `tail` is what is authenticated beyond the packet: the roll-over counter of RTP, the flag and index of RTCP.
    pub fn seal(&self, at: Index, packet: &mut [u8], clear: usize, tail: [u8; 4]) -> Option<[u8; TAG]> {
        match &self.cipher {
            Cipher::Counter128(aes, mac) => {
                encrypt(aes, self.counter_iv(at), packet.get_mut(clear..)?);
                Some(mac_tag(mac, packet, tail))
            }
            Cipher::Counter256(aes, mac) => {
                encrypt(aes, self.counter_iv(at), packet.get_mut(clear..)?);
                Some(mac_tag(mac, packet, tail))
            }
            Cipher::Gcm128(gcm) => self.seal_aead(gcm, at, packet, clear, tail),
            Cipher::Gcm256(gcm) => self.seal_aead(gcm, at, packet, clear, tail),
        }
    }

    fn seal_aead<A>(&self, gcm: &A, at: Index, packet: &mut [u8], clear: usize, tail: [u8; 4]) -> Option<[u8; TAG]>
    where
        A: AeadInOut<NonceSize = aes::cipher::consts::U12, TagSize = U16>,
    {
        let (header, text) = packet.split_at_mut_checked(clear)?;
        let nonce = self.nonce(at).into();
        let mut room = [0; RTCP_CLEAR + 4];
        let associated = self.associated(header, tail, &mut room)?;
        let tag = gcm.encrypt_inout_detached(&nonce, associated, InOutBuf::from(text)).ok()?;
        Some(tag.into())
    }

    /// Check the tag and decrypt all of `packet` but its first `clear` octets. A packet that is not genuine may be garbled.
    #[must_use]
    pub fn open(&self, at: Index, packet: &mut [u8], clear: usize, tail: [u8; 4], tag: &[u8]) -> bool {
        match &self.cipher {
            Cipher::Counter128(aes, mac) => {
                let genuine = mac_holds(mac, packet, tail, tag);
                if let (true, Some(text)) = (genuine, packet.get_mut(clear..)) {
                    encrypt(aes, self.counter_iv(at), text);
                }
                genuine
            }
            Cipher::Counter256(aes, mac) => {
                let genuine = mac_holds(mac, packet, tail, tag);
                if let (true, Some(text)) = (genuine, packet.get_mut(clear..)) {
                    encrypt(aes, self.counter_iv(at), text);
                }
                genuine
            }
            Cipher::Gcm128(gcm) => self.open_aead(gcm, at, packet, clear, tail, tag).is_some(),
            Cipher::Gcm256(gcm) => self.open_aead(gcm, at, packet, clear, tail, tag).is_some(),
        }
    }

    fn open_aead<A>(&self, gcm: &A, at: Index, packet: &mut [u8], clear: usize, tail: [u8; 4], tag: &[u8]) -> Option<()>
    where
        A: AeadInOut<NonceSize = aes::cipher::consts::U12, TagSize = U16>,
    {
        let tag: [u8; TAG] = tag.try_into().ok()?;
        let (header, text) = packet.split_at_mut_checked(clear)?;
        let nonce = self.nonce(at).into();
        let mut room = [0; RTCP_CLEAR + 4];
        let associated = self.associated(header, tail, &mut room)?;
        gcm.decrypt_inout_detached(&nonce, associated, InOutBuf::from(text), &tag.into()).ok()
    }

    /// RTCP's flag and index are associated data behind the header (RFC 7714 §9.2); RTP has its counter in the nonce only.
    fn associated<'a>(&self, header: &'a [u8], tail: [u8; 4], room: &'a mut [u8; RTCP_CLEAR + 4]) -> Option<&'a [u8]> {
        if !self.rtcp {
            return Some(header);
        }
        room[..RTCP_CLEAR].copy_from_slice(header.get(..RTCP_CLEAR)?);
        room[RTCP_CLEAR..].copy_from_slice(&tail);
        Some(room)
    }
}

/// AES in counter mode: the same both ways.
fn encrypt<C: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16>>(aes: &C, iv: [u8; 16], text: &mut [u8]) {
    let core = CtrCore::<&C, flavors::Ctr128BE>::inner_iv_init(aes, &iv.into());
    StreamCipherCoreWrapper::from_core(core).apply_keystream(text);
}

fn mac_tag(mac: &Hmac<Sha1>, packet: &[u8], tail: [u8; 4]) -> [u8; TAG] {
    let mut mac = mac.clone();
    mac.update(packet);
    mac.update(&tail);
    let mut tag = [0; TAG];
    tag.copy_from_slice(&mac.finalize().into_bytes()[..TAG]);
    tag
}

fn mac_holds(mac: &Hmac<Sha1>, packet: &[u8], tail: [u8; 4], tag: &[u8]) -> bool {
    let mut mac = mac.clone();
    mac.update(packet);
    mac.update(&tail);
    mac.verify_truncated_left(tag).is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::hex;
    use super::*;

    fn transform(suite: Suite, key: &str, salt: &str, rtcp: bool) -> Transform {
        let mut padded = Zeroizing::new([0; 14]);
        let salt = hex(salt);
        padded[..salt.len()].copy_from_slice(&salt);
        let tag = if rtcp { suite.rtcp_tag_length() } else { suite.tag_length() };
        Transform::with_keys(suite, &hex(key), &[0; 20], padded, tag, rtcp).unwrap()
    }

    #[test]
    fn rfc3711_b_2_keystream_of_aes_cm() {
        let suite = Suite::AesCm128Sha1Tag80;
        let transform = transform(suite, "2B7E151628AED2A6ABF7158809CF4F3C", "F0F1F2F3F4F5F6F7F8F9FAFBFCFD", false);
        let mut stream = vec![0; 0xFF02 * 16];
        transform.seal(Index { ssrc: 0, index: 0 }, &mut stream, 0, [0; 4]).unwrap();
        assert_eq!(stream[..32], hex("E03EAD0935C95E80E166B16DD92B4EB4D23513162B02D0F72A43A2FE4A5F97AB"));
        assert_eq!(
            stream[0xFEFF * 16..0xFF02 * 16],
            hex(concat!(
                "EC8CDF7398607CB0F2D21675EA9EA1E4",
                "362B7C3C6773516318A077D7FC5073AE",
                "6A2CC3787889374FBEB4C81B17BA6C44",
            ))
        );
    }

    #[test]
    fn rfc6188_7_1_keystream_of_aes_256_cm() {
        let key = "57F82FE3613FD170A85EC93C40B1F0922EC4CB0DC025B58272147CC438944A98";
        let transform = transform(Suite::AesCm256Sha1Tag80, key, "F0F1F2F3F4F5F6F7F8F9FAFBFCFD", false);
        let mut stream = vec![0; 32];
        transform.seal(Index { ssrc: 0, index: 0 }, &mut stream, 0, [0; 4]).unwrap();
        assert_eq!(stream, hex("92BDD28A93C3F52511C677D08B5515A49DA71B2378A854F67050756DED165BAC"));
    }

    const GALLIA: &str = "47616C6C696120657374206F6D6E69732064697669736120696E207061727465732074726573";

    #[test]
    fn rfc7714_16_1_aead_aes_128_gcm() {
        let transform =
            transform(Suite::AeadAes128Gcm, "000102030405060708090A0B0C0D0E0F", "517569642070726F2071756F", false);
        let header = hex("8040F17B8041F8D35501A0B2");
        let mut packet = [header.clone(), hex(GALLIA)].concat();
        let at = Index { ssrc: 0x5501_A0B2, index: 0xF17B };
        let tag = transform.seal(at, &mut packet, 12, [0; 4]).unwrap();
        let cipher = hex("F24DE3A3FB34DE6CACBA861C9D7E4BCABE633BD50D294E6F42A5F47A51C7D19B36DE3ADF8833");
        assert_eq!((&packet[..12], &packet[12..]), (&header[..], &cipher[..]));
        assert_eq!(tag[..], hex("899D7F27BEB16A9152CF765EE4390CCE"));
        assert!(transform.open(at, &mut packet, 12, [0; 4], &tag));
        assert_eq!(packet[12..], hex(GALLIA));
    }

    #[test]
    fn rfc7714_16_2_aead_aes_256_gcm() {
        let key = "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F";
        let transform = transform(Suite::AeadAes256Gcm, key, "517569642070726F2071756F", false);
        let mut packet = [hex("8040F17B8041F8D35501A0B2"), hex(GALLIA)].concat();
        let at = Index { ssrc: 0x5501_A0B2, index: 0xF17B };
        let tag = transform.seal(at, &mut packet, 12, [0; 4]).unwrap();
        assert_eq!(packet[12..], hex("32B1DE78A822FE12EF9F78FA332E33AAB18012389A58E2F3B50B2A0276FFAE0F1BA63799B87B"));
        assert_eq!(tag[..], hex("7AA3DB36DFFFD6B0F9BB7878D7A76C13"));
    }

    #[test]
    fn rfc7714_17_1_srtcp_aead_aes_128_gcm() {
        let transform =
            transform(Suite::AeadAes128Gcm, "000102030405060708090A0B0C0D0E0F", "517569642070726F2071756F", true);
        let plain = hex(concat!(
            "81C8000D4D6172734E5450314E545032525450200000042A0000E9304C756E61",
            "DEADBEEFDEADBEEFDEADBEEFDEADBEEFDEADBEEF",
        ));
        let mut packet = plain.clone();
        let at = Index { ssrc: 0x4D61_7273, index: 0x5D4 };
        let tail = [0x80, 0x00, 0x05, 0xD4];
        let tag = transform.seal(at, &mut packet, RTCP_CLEAR, tail).unwrap();
        assert_eq!(
            packet,
            hex(concat!(
                "81C8000D4D61727363E94885DCDAB67CA727D7662F6B7E997FF5C0F76C06F32D",
                "C676A5F1730D6FDA4CE09B4686303DED0BB9275B",
            ))
        );
        assert_eq!(tag[..], hex("C84AA45896CF4D2FC5ABF87245D9EADE"));
        assert!(transform.open(at, &mut packet, RTCP_CLEAR, tail, &tag));
        assert_eq!(packet, plain);
        assert!(!transform.open(at, &mut packet, RTCP_CLEAR, [0, 0, 5, 0xD4], &tag));
    }
}
