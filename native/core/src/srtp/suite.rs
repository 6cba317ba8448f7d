//! Crypto suites, master keys, and the keys derived from them (RFC 3711 §4.3, RFC 6188 §3, RFC 7714 §11).

use std::fmt;

use aes::cipher::{KeyIvInit, StreamCipher};
use aes::{Aes128Enc, Aes256Enc};
use ctr::Ctr128BE;
use zeroize::Zeroizing;

/// A crypto suite by its name in SDP (RFC 4568 §6.2, RFC 6188 §7.1, RFC 7714 §14.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    AesCm128Sha1Tag80,
    AesCm128Sha1Tag32,
    AesCm256Sha1Tag80,
    AesCm256Sha1Tag32,
    AeadAes128Gcm,
    AeadAes256Gcm,
}

impl Suite {
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "AES_CM_128_HMAC_SHA1_80" => Some(Self::AesCm128Sha1Tag80),
            "AES_CM_128_HMAC_SHA1_32" => Some(Self::AesCm128Sha1Tag32),
            "AES_256_CM_HMAC_SHA1_80" => Some(Self::AesCm256Sha1Tag80),
            "AES_256_CM_HMAC_SHA1_32" => Some(Self::AesCm256Sha1Tag32),
            "AEAD_AES_128_GCM" => Some(Self::AeadAes128Gcm),
            "AEAD_AES_256_GCM" => Some(Self::AeadAes256Gcm),
            _ => None,
        }
    }

    /// Octets of the master key and of every derived encryption key.
    pub fn key_length(self) -> usize {
        match self {
            Self::AesCm128Sha1Tag80 | Self::AesCm128Sha1Tag32 | Self::AeadAes128Gcm => 16,
            Self::AesCm256Sha1Tag80 | Self::AesCm256Sha1Tag32 | Self::AeadAes256Gcm => 32,
        }
    }

    pub fn is_aead(self) -> bool {
        matches!(self, Self::AeadAes128Gcm | Self::AeadAes256Gcm)
    }

    /// Octets of the master salt and of every derived salt.
    pub fn salt_length(self) -> usize {
        if self.is_aead() {
            12
        } else {
            14
        }
    }

    /// Octets of an SRTP packet's authentication tag.
    pub fn tag_length(self) -> usize {
        match self {
            Self::AesCm128Sha1Tag80 | Self::AesCm256Sha1Tag80 => 10,
            Self::AesCm128Sha1Tag32 | Self::AesCm256Sha1Tag32 => 4,
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 16,
        }
    }

    /// Octets of an SRTCP packet's: never short (RFC 4568 §6.2.2).
    pub fn rtcp_tag_length(self) -> usize {
        self.tag_length().max(10)
    }
}

/// What a derived key is for; the labels of RFC 3711 §4.3.1 and, for RTCP, §4.3.2.
#[derive(Clone, Copy)]
pub enum Purpose {
    Encryption,
    Authentication,
    Salt,
}

impl Purpose {
    fn label(self, rtcp: bool) -> u8 {
        self as u8 + if rtcp { 3 } else { 0 }
    }
}

/// Octets of an HMAC-SHA1 key (RFC 3711 §5.2).
pub const AUTHENTICATION_KEY: usize = 20;

/// One direction's master key and salt. Wiped when dropped, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey {
    suite: Suite,
    material: Zeroizing<Vec<u8>>,
}

impl MasterKey {
    /// `material` is key then salt, as `inline:` of SDP carries them; nothing when its length is not the suite's.
    pub fn new(suite: Suite, material: &[u8]) -> Option<Self> {
        let right = material.len() == suite.key_length() + suite.salt_length();
        right.then(|| Self { suite, material: Zeroizing::new(material.to_vec()) })
    }

    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// RFC 3711 §4.3.1 and §4.3.3 with a key derivation rate of 0: keystream of AES-CM under the master key.
    pub fn derive(&self, purpose: Purpose, rtcp: bool, out: &mut [u8]) {
        let (key, salt) = self.material.split_at(self.suite.key_length());
        // A salt of 96 bits stands left of 16 zero bits (RFC 7714 §11).
        let mut iv = [0; 16];
        iv[..salt.len()].copy_from_slice(salt);
        iv[7] ^= purpose.label(rtcp);
        out.fill(0);
        if let Ok(key) = <&[u8; 16]>::try_from(key) {
            Ctr128BE::<Aes128Enc>::new(key.into(), &iv.into()).apply_keystream(out);
        } else if let Ok(key) = <&[u8; 32]>::try_from(key) {
            Ctr128BE::<Aes256Enc>::new(key.into(), &iv.into()).apply_keystream(out);
        }
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "MasterKey({:?})", self.suite)
    }
}

#[cfg(test)]
mod tests {
    use super::super::hex;
    use super::*;

    fn derived(suite: Suite, material: &str, rtcp: bool) -> [Vec<u8>; 3] {
        let master = MasterKey::new(suite, &hex(material)).unwrap();
        [
            (Purpose::Encryption, suite.key_length()),
            (Purpose::Salt, suite.salt_length()),
            (Purpose::Authentication, AUTHENTICATION_KEY),
        ]
        .map(|(purpose, length)| {
            let mut out = vec![0; length];
            master.derive(purpose, rtcp, &mut out);
            out
        })
    }

    #[test]
    fn rfc3711_b_3_key_derivation() {
        let material = "E1F97A0D3E018BE0D64FA32C06DE4139 0EC675AD498AFEEBB6960B3AABE6";
        let [key, salt, authentication] = derived(Suite::AesCm128Sha1Tag80, material, false);
        assert_eq!(key, hex("C61E7A93744F39EE10734AFE3FF7A087"));
        assert_eq!(salt, hex("30CBBC08863D8C85D49DB34A9AE1"));
        assert_eq!(authentication, hex("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"));
    }

    #[test]
    fn rfc6188_7_2_key_derivation_of_aes_256() {
        let material = "F0F04914B513F2763A1B1FA130F10E2998F6F6E43E4309D1E622A0E332B9F1B6 3B04803DE51EE7C96423AB5B78D2";
        let [key, salt, authentication] = derived(Suite::AesCm256Sha1Tag80, material, false);
        assert_eq!(key, hex("5BA1064E30EC51613CAD926C5A28EF731EC7FB397F70A960653CAF06554CD8C4"));
        assert_eq!(salt, hex("FA31791685CA444A9E07C6C64E93"));
        assert_eq!(authentication, hex("FD9C32D39ED5FBB5A9DC96B30818454D1313DC05"));
    }

    #[test]
    fn rfc3711_4_3_2_every_key_is_its_own() {
        let material = "E1F97A0D3E018BE0D64FA32C06DE4139 0EC675AD498AFEEBB6960B3AABE6";
        let [rtp, _, _] = derived(Suite::AesCm128Sha1Tag80, material, false);
        let [rtcp, _, _] = derived(Suite::AesCm128Sha1Tag80, material, true);
        assert_ne!(rtp, rtcp);
    }

    #[test]
    fn a_master_key_of_the_wrong_length_is_refused_and_none_is_printed() {
        assert!(MasterKey::new(Suite::AesCm128Sha1Tag80, &[7; 29]).is_none());
        assert!(MasterKey::new(Suite::AeadAes128Gcm, &[7; 30]).is_none());
        let key = MasterKey::new(Suite::AeadAes256Gcm, &[7; 44]).unwrap();
        assert_eq!(format!("{key:?}"), "MasterKey(AeadAes256Gcm)");
    }

    #[test]
    fn rfc4568_6_2_suites_by_name() {
        for (name, key, salt, tag, rtcp_tag) in [
            ("AES_CM_128_HMAC_SHA1_80", 16, 14, 10, 10),
            ("AES_CM_128_HMAC_SHA1_32", 16, 14, 4, 10),
            ("AES_256_CM_HMAC_SHA1_80", 32, 14, 10, 10),
            ("AES_256_CM_HMAC_SHA1_32", 32, 14, 4, 10),
            ("AEAD_AES_128_GCM", 16, 12, 16, 16),
            ("AEAD_AES_256_GCM", 32, 12, 16, 16),
        ] {
            let suite = Suite::from_name(name).unwrap();
            let lengths = (suite.key_length(), suite.salt_length(), suite.tag_length(), suite.rtcp_tag_length());
            assert_eq!(lengths, (key, salt, tag, rtcp_tag));
        }
        assert_eq!(Suite::from_name("F8_128_HMAC_SHA1_80"), None);
    }
}
