"""Why a use cost what it cost, and why an account is below its floor: from what is recorded, in data and in words."""
